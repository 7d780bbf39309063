"""Rules that a cluster sets for a compiled graph: one table, each rule with the source that it was read in.

A rule looks at a graph as `compiled` reads it back from KFP's output, and yields a line for each thing that breaks it.
Check this table again for every new version of Kubeflow Pipelines: `python -m tests.cluster.contract` prints it.
"""

from tests.cluster import run_rules, step_rules  # noqa: F401 - they fill the table
from tests.cluster.rule import RULES, Rule

__all__ = ["RULES", "Rule"]

if __name__ == "__main__":
    print("| rule | demand | read in |\n| --- | --- | --- |")
    for rule in RULES:
        print(f"| {rule.id} | {rule.demand} | {rule.source} |")
