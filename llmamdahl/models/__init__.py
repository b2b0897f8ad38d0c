"""Models: their hyperparameters, by name or from a Hugging Face `config.json`."""

from llmamdahl.models.decoder import Decoder, Experts, Indexer, Latent, Recurrent
from llmamdahl.models.huggingface import from_hf_config
from llmamdahl.models.named import (
    CONTEXT_LENGTHS,
    FAMILY,
    PRINTED,
    benchmarked,
    find_model,
    get_model,
    hybrids,
    model_names,
    table2_printed,
    table2_true,
    zoo,
    zoo_names,
)

__all__ = [
    "CONTEXT_LENGTHS",
    "FAMILY",
    "PRINTED",
    "Decoder",
    "Experts",
    "Indexer",
    "Latent",
    "Recurrent",
    "benchmarked",
    "find_model",
    "from_hf_config",
    "get_model",
    "hybrids",
    "model_names",
    "table2_printed",
    "table2_true",
    "zoo",
    "zoo_names",
]
