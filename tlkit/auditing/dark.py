"""Dark scans: files of more than 8 bits a sample that use a small part of their range, and so are decoded almost black."""

from collections.abc import Iterator

from tlkit.auditing.evidence import Evidence
from tlkit.auditing.findings import Finding
from tlkit.data import decode


def check(evidence: Evidence) -> Iterator[Finding]:
    """One finding where the whole set is dark; none where `--levels` says what black and white are."""
    sentence = "" if evidence.levelled else decode.dark([evidence.dataset.file(i) for i in range(len(evidence))])
    if sentence:
        yield Finding(
            check="dark",
            severity="serious",
            sentence=sentence[0].upper() + sentence[1:],
            remedy="Say what is black and white; the classifier keeps it, and so do predict, serve and every export.",
            command=evidence.finetune("--levels", "auto"),
        )
