"""A complete example in Python: a sample with faults, a classifier, its metrics, and predictions for new images."""

import tlkit


def main() -> None:
    """Runs with no network in about a minute."""
    images = tlkit.sample("shapes", "demo/shapes", count=400, corrupt=0.02, overwrite=True)
    run = tlkit.finetune(images["out"], backbone="nano", stages=("head",), out="demo/shapes-run", overwrite=True)
    for problem in run["set_aside"]:
        print(f"set aside: {problem['path']}: {problem['reason']}")
    accuracy = run["metrics"]["test"]["accuracy"]
    print(f"test accuracy {accuracy['value']:.3f} on {accuracy['n']} images; the report: {run['out']}/report.html")
    tlkit.predict(run["out"], ["demo/shapes/star"], out="demo/stars.csv", overwrite=True)


if __name__ == "__main__":
    main()
