"""The backends that come with ramiel-ir; each is imported when it is first asked for."""

BACKENDS = {
    "ort": "ramiel_backends.ort.backend:OrtBackend",
    "torch": "ramiel_backends.torch.backend:TorchBackend",
}
