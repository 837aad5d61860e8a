"""The title encoder in use: titles in, unit vectors out.

The directory that `shelfwise.matching.train` writes is an ordinary sentence-transformers model and can be loaded with
that library. Encoding millions of short titles on a CPU through it costs more in bookkeeping than in arithmetic, and
importing it costs seconds in every process. So the two kinds of model that training from scratch makes are run here:
a static embedding (the mean of one vector per word piece) by numpy and a compiled loop, without torch; a BERT with mean
pooling, which is what most small sentence encoders are, by forty lines of torch on batches of nearly equal length.
Anything else falls back on sentence-transformers. Tests hold them to the same numbers.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shelfwise.text import normalise as normal_form

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

_LONGEST = 1_000_000  # tokenizers without a stated limit write a number far above this into their configuration
_TOKENISED_AT_ONCE = 65_536  # keeps the tokenizer's intermediate objects under some hundred MB


class _Backend(Protocol):
    """Something that turns distinct texts into unit vectors."""

    dim: int

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray: ...


class TitleEncoder:
    """Encodes titles into float32 unit vectors, so that a dot product is a cosine similarity."""

    def __init__(self, backend: _Backend):
        self._backend = backend

    @classmethod
    def load(cls, directory: Path | str, plain: bool = True) -> TitleEncoder:
        """Load an encoder from a directory written by `train_encoder` or by sentence-transformers.

        `plain=False` runs it through sentence-transformers whatever its modules are.
        Raises FileNotFoundError where the directory holds no model.
        """
        # Read when OpenMP is loaded, with torch. Threads that spin while they wait for each other left a
        # third of the speed on two cores that other processes used too.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        path = Path(directory)
        if not (path / "config.json").exists() and not (path / "modules.json").exists():
            raise FileNotFoundError(f"no encoder in {path}: neither config.json nor modules.json is there")
        if plain:
            if why_not_static(path) is None:
                return cls(_StaticBackend(path))
            reason = why_not_plain(path)
            if reason is None:
                return cls(_PlainBertBackend(path))
            log.info("encoder in %s runs through sentence-transformers: %s", path, reason)
        return cls(_SentenceTransformerBackend(path))

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._backend.dim

    def encode(self, titles: Sequence[str], batch_size: int = 128, normalise: bool = True) -> np.ndarray:
        """Return the vectors of titles, float32 [len(titles), dim], each of length 1.

        An empty title has the zero vector in a static embedding: it is like nothing.
        Titles are compared in the normal form of `shelfwise.text`, so titles with one normal form get one vector,
        computed once. `normalise=False` is for titles that already are in that form.
        """
        texts = [normal_form(title) for title in titles] if normalise else list(titles)
        position: dict[str, int] = {}
        inverse = np.fromiter((position.setdefault(text, len(position)) for text in texts), np.int64, len(texts))
        if not position:
            return np.zeros((0, self.dim), np.float32)
        vectors = self._backend.encode(list(position), batch_size)
        return vectors if len(position) == len(texts) else vectors[inverse]


def why_not_static(directory: Path) -> str | None:
    """Return why the encoder in a directory cannot be run as a static embedding without torch, or None if it can."""
    modules = _read_json(directory / "modules.json", [])
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["StaticEmbedding", "Normalize"], ["StaticEmbedding"]):
        return f"its modules are {kinds or 'not listed'}"
    if _read_json(directory / "config_sentence_transformers.json", {}).get("default_prompt_name"):
        return "it puts a prompt before each text"
    root = directory / modules[0]["path"]
    for name in ("tokenizer.json", "model.safetensors"):
        if not (root / name).exists():
            return f"it has no {name}"
    tokenizer = _read_json(root / "tokenizer.json", {})
    truncation = tokenizer.get("truncation") or {}
    if truncation.get("direction", "Right") != "Right":
        return "it cuts titles at the front"
    parts = [(tokenizer.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    if parts != ["BertNormalizer", "BertPreTokenizer", "WordPiece"] or tokenizer.get("added_tokens"):
        return "its tokenizer does not take words for themselves"
    return None


class _StaticBackend:
    """The sum of one vector per word piece, at unit length: no torch, and each distinct word is cut into pieces once.

    A BERT tokenizer reads the text between two spaces whatever stands around it, so words can be taken for themselves.
    """

    def __init__(self, directory: Path):
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        root = directory / _read_json(directory / "modules.json", [])[0]["path"]
        self._vectors = np.ascontiguousarray(load_file(root / "model.safetensors")["embedding.weight"], np.float32)
        self._tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
        self._limit: int = (self._tokenizer.truncation or {}).get("max_length", _LONGEST)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.dim: int = self._vectors.shape[1]

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        from shelfwise.matching.static_kernels import unit_sums

        place: dict[str, int] = {}
        split = [text.split(" ") for text in texts]
        words = np.fromiter((place.setdefault(word, len(place)) for word in chain.from_iterable(split)), np.int64)
        word_ends = np.cumsum(np.fromiter(map(len, split), np.int64, len(split)))
        pieces = tokenise(self._tokenizer, list(place), special=False)
        piece_ends = np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)))
        flat = np.fromiter(chain.from_iterable(pieces), np.int64)
        return unit_sums(words, word_ends, flat, piece_ends, self._vectors, self._limit)


def why_not_plain(directory: Path) -> str | None:
    """Return why the encoder in a directory cannot be run by the plain BERT below, or None if it can."""
    modules = _read_json(directory / "modules.json", [])
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling", "Normalize"], ["Transformer", "Pooling"]):
        return f"its modules are {kinds or 'not listed'}"
    config = _read_json(directory / modules[0]["path"] / "config.json", {})
    if config.get("model_type") != "bert" or config.get("is_decoder"):
        return f"its model type is {config.get('model_type')}"
    if config.get("hidden_act", "gelu") != "gelu":
        return f"its activation is {config['hidden_act']}"
    if config.get("position_embedding_type", "absolute") != "absolute":
        return "its position embeddings are relative"
    pooling = _read_json(directory / modules[1]["path"] / "config.json", {})
    old_names = {key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True}
    if pooling.get("pooling_mode", "mean" if old_names == {"pooling_mode_mean_tokens"} else None) != "mean":
        return "its pooling is not the mean"
    if _read_json(directory / "config_sentence_transformers.json", {}).get("default_prompt_name"):
        return "it puts a prompt before each text"
    if _read_json(directory / "sentence_bert_config.json", {}).get("do_lower_case"):
        return "it lowers case outside its tokenizer"
    root = directory / modules[0]["path"]
    for name in ("tokenizer.json", "model.safetensors"):
        if not (root / name).exists():
            return f"it has no {name}"
    return None


class _PlainBertBackend:
    """A BERT with mean pooling run without transformers: fused projections, no padding to speak of."""

    def __init__(self, directory: Path):
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        root = directory / _read_json(directory / "modules.json", [])[0]["path"]
        self._config = _read_json(root / "config.json", {})
        self._model = PlainBert(load_file(root / "model.safetensors"), self._config)
        self._tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_max_length(root, self._config))
        self.dim: int = self._config["hidden_size"]

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        return encode_ids(self._forward, tokenise(self._tokenizer, texts), self.dim, batch_size)

    def _forward(self, ids: list[list[int]]) -> torch.Tensor:
        import torch

        padded, lengths = pad(ids)
        return self._model(torch.from_numpy(padded), torch.from_numpy(lengths))


class _SentenceTransformerBackend:
    """Any other sentence-transformers model."""

    def __init__(self, directory: Path):
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(directory), local_files_only=True)
        self.dim: int = int(self._model.get_embedding_dimension() or 0)

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        vectors = self._model.encode(
            texts, batch_size=batch_size, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)


def tokenise(tokenizer: Tokenizer, texts: Sequence[str], special: bool = True) -> list[list[int]]:
    """Return the token ids of texts, cut at the tokenizer's limit and not padded; `special`: with special tokens."""
    ids: list[list[int]] = []
    for start in range(0, len(texts), _TOKENISED_AT_ONCE):
        part = texts[start : start + _TOKENISED_AT_ONCE]
        ids.extend(encoding.ids for encoding in tokenizer.encode_batch_fast(part, add_special_tokens=special))
    return ids


def pad(ids: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return token ids padded to the longest, int64 [n, longest], and their lengths, int64 [n]."""
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    width = int(lengths.max(initial=1))
    padded = np.full((len(ids), width), pad_id, np.int64)
    padded[np.arange(width) < lengths[:, None]] = np.fromiter((token for row in ids for token in row), np.int64)
    return padded, lengths


def encode_ids(model: Any, ids: list[list[int]], dim: int, batch_size: int) -> np.ndarray:
    """Return the unit vectors of token id lists, float32 [n, dim].

    `model` takes a batch of lists and returns a tensor [b, dim]. Lists are taken in order of length, so that a padded
    batch holds hardly any padding.
    """
    import torch

    order = np.argsort(np.fromiter(map(len, ids), np.int64, len(ids)), kind="stable")
    vectors = np.empty((len(ids), dim), np.float32)
    with torch.inference_mode():
        for start in range(0, len(ids), batch_size):
            chosen = order[start : start + batch_size]
            vectors[chosen] = model([ids[i] for i in chosen]).float().numpy()
    return vectors


class PlainBert:
    """The forward pass of a BERT encoder with mean pooling and L2 normalisation (Devlin et al. 2019).

    `state` is the state dict of transformers' `BertModel`, `config` its configuration as a dictionary.
    """

    def __init__(self, state: dict[str, torch.Tensor], config: dict[str, Any]):
        import torch

        state = {name.removeprefix("bert."): tensor.float() for name, tensor in state.items()}
        self._heads = config["num_attention_heads"]
        self._epsilon = config.get("layer_norm_eps", 1e-12)
        self._words = state["embeddings.word_embeddings.weight"]
        # All tokens are of type 0, so its embedding can be added to the positions once.
        self._positions = (
            state["embeddings.position_embeddings.weight"] + state["embeddings.token_type_embeddings.weight"][0]
        )
        self._first_norm = (state["embeddings.LayerNorm.weight"], state["embeddings.LayerNorm.bias"])
        self._layers = []
        for i in range(config["num_hidden_layers"]):
            layer = {
                name.removeprefix(f"encoder.layer.{i}."): tensor
                for name, tensor in state.items()
                if name.startswith(f"encoder.layer.{i}.")
            }
            projections = [f"attention.self.{name}" for name in ("query", "key", "value")]
            layer["qkv.weight"] = torch.cat([layer.pop(f"{name}.weight") for name in projections])
            layer["qkv.bias"] = torch.cat([layer.pop(f"{name}.bias") for name in projections])
            self._layers.append(layer)

    def __call__(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the vectors of padded token ids [b, t] with lengths [b], float32 [b, hidden]."""
        from torch.nn import functional as F

        width = ids.shape[1]
        real = self._real_tokens(lengths, width)
        mask = None if real is None else real[:, None, None, :]
        hidden = F.embedding(ids, self._words) + self._positions[:width]
        hidden = F.layer_norm(hidden, hidden.shape[-1:], *self._first_norm, self._epsilon)
        for layer in self._layers:
            hidden = self._layer(hidden, layer, mask)
        total = hidden.sum(1) if real is None else (hidden * real[:, :, None]).sum(1)
        return F.normalize(total, dim=-1)  # the mean and the sum point the same way

    def _layer(self, hidden: torch.Tensor, layer: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        from torch.nn import functional as F

        batch, width, size = hidden.shape
        qkv = F.linear(hidden, layer["qkv.weight"], layer["qkv.bias"])
        query, key, value = qkv.view(batch, width, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = self._dense(mixed.transpose(1, 2).reshape(batch, width, size), layer, "attention.output.dense")
        hidden = self._norm(hidden + mixed, layer, "attention.output.LayerNorm")
        wide = F.gelu(self._dense(hidden, layer, "intermediate.dense"))
        return self._norm(hidden + self._dense(wide, layer, "output.dense"), layer, "output.LayerNorm")

    def _dense(self, hidden: torch.Tensor, layer: dict[str, torch.Tensor], name: str) -> torch.Tensor:
        from torch.nn import functional as F

        return F.linear(hidden, layer[f"{name}.weight"], layer[f"{name}.bias"])

    def _norm(self, hidden: torch.Tensor, layer: dict[str, torch.Tensor], name: str) -> torch.Tensor:
        from torch.nn import functional as F

        return F.layer_norm(hidden, hidden.shape[-1:], layer[f"{name}.weight"], layer[f"{name}.bias"], self._epsilon)

    def _real_tokens(self, lengths: torch.Tensor, width: int) -> torch.Tensor | None:
        """Return which tokens are not padding, bool [b, t], or None where there is no padding."""
        import torch

        if int(lengths.min()) == width:
            return None
        return torch.arange(width)[None, :] < lengths[:, None]


def _max_length(root: Path, config: dict[str, Any]) -> int:
    """Longest input in tokens: the smallest of the limits that the model's files state."""
    limits = [
        config.get("max_position_embeddings"),
        _read_json(root / "tokenizer_config.json", {}).get("model_max_length"),
        _read_json(root / "sentence_bert_config.json", {}).get("max_seq_length"),
    ]
    return int(min(limit for limit in limits if limit and limit < _LONGEST))


def _read_json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default
