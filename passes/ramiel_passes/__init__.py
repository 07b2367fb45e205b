"""The passes that come with ramiel-ir; each is imported when it is first asked for."""

PASSES = {
    "absorb": "ramiel_passes.absorb:Absorb",
    "clone": "ramiel_passes.clone:Clone",
    "cluster": "ramiel_passes.cluster:Cluster",
    "dce": "ramiel_passes.dce:Dce",
    "divide": "ramiel_passes.divide:Divide",
    "fold": "ramiel_passes.fold:Fold",
    "gate": "ramiel_passes.gate:Gate",
    "hypercluster": "ramiel_passes.hypercluster:Hypercluster",
    "merge": "ramiel_passes.merge:Merge",
    "refine": "ramiel_passes.refine:Refine",
    "sequential": "ramiel_passes.sequential:Sequential",
}
