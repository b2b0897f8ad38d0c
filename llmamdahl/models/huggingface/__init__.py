"""A Hugging Face `config.json` -> Decoder."""

from llmamdahl.models.huggingface.reader import READERS, REQUIRED, formats, from_hf_config

__all__ = ["READERS", "REQUIRED", "formats", "from_hf_config"]
