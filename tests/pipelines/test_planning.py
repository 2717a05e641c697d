import pytest

from tlkit.base.errors import TlkitError
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run


@pytest.mark.parametrize("given", [{"balance": "weights"}, {"unfreeze": "auto"}])
def test_what_knows_one_label_alone_is_refused_for_several(colours, tiny_backbone, tmp_path, given):
    table = tmp_path / "images.csv"
    rows = [f"{path},{path.parent.name}|{path.parent.name}ish" for path in sorted(colours.glob("*/*.png"))]
    table.write_text("\n".join(["path,label", *rows]))
    config = FinetuneConfig(images=str(table), backbone=str(tiny_backbone), out=str(tmp_path / "run"), **given)
    with pytest.raises(TlkitError, match=f"--{next(iter(given))}"):
        run(config)
