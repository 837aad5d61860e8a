"""The untrained encoder: its tokenizer, and a static embedding or a small BERT made from scratch, or a given model."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shelfwise.matching.training_data import TrainingRows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertTokenizer

    from shelfwise.matching.rerank import CrossTraining
    from shelfwise.matching.train import EncoderConfig

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_ALPHABET = 1000  # characters that get a piece of their own; a word with any other is unknown
STATIC_SPREAD = 0.1  # of the first vectors: small beside a step of the optimizer, so that tokens move at once


def build_model(config: EncoderConfig, rows: TrainingRows, scratch: Path) -> SentenceTransformer:
    """Return the untrained model: from scratch with a tokenizer trained on the titles, or the configured base.

    `scratch` holds the files of a new BERT for as long as loading takes.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(config.seed)
    if config.base is None:
        modules = _static_modules(config, rows) if config.architecture == "static" else _bert(config, rows, scratch)
        model = SentenceTransformer(modules=modules, local_files_only=True)
    else:
        model = _given_model(config, config.base)
    if torch.cuda.is_available():
        model.to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    if not is_static(model):  # saved files would otherwise name the directory the model was read from
        first: Any = model[0]
        first.model.config._name_or_path = ""
        model.tokenizer.name_or_path = ""
    return model


def is_static(model: SentenceTransformer) -> bool:
    """Whether a model is the mean of one vector per token, which takes tokens unpadded."""
    return type(model[0]).__name__ == "StaticEmbedding"


def vocabulary_size(model: SentenceTransformer) -> int:
    """Return how many tokens the model's tokenizer knows."""
    tokenizer: Any = model.tokenizer
    return tokenizer.get_vocab_size() if is_static(model) else len(tokenizer)


def train_vocabulary(texts: Sequence[str], vocab_size: int) -> dict[str, int]:
    """Return the pieces and numbers of a WordPiece vocabulary (Schuster and Nakajima 2012) trained on texts.

    The texts are in normal form, so neither case nor accents are changed. The trainer of `tokenizers` numbers letters
    in the order of a randomly seeded hash map and breaks ties between merges by those numbers. It is given the letters
    in a fixed order, as if they were special tokens; in the vocabulary they are ordinary pieces.
    """
    from tokenizers import models, trainers

    counts = Counter(character for text in texts for character in text if not character.isspace())
    kept = sorted(counts, key=lambda character: (-counts[character], character))[:MAX_ALPHABET]
    rare = {ord(character): None for character in set(counts) - set(kept)}
    letters = [prefix + character for prefix in ("", "##") for character in sorted(kept)]
    tokenizer = _word_pieces(models.WordPiece(unk_token="[UNK]"))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIAL_TOKENS, *letters], show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator((text.translate(rare) for text in texts), trainer)
    return tokenizer.get_vocab()


def _word_pieces(model: Any) -> Tokenizer:
    """Return BERT's tokenizer of words and pieces, which leaves case and accents alone."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _static_modules(config: EncoderConfig, rows: TrainingRows) -> list[Any]:
    import torch
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
    from tokenizers import models

    vocabulary = train_vocabulary([*rows.lines, *rows.titles], config.vocab_size)
    tokenizer = _word_pieces(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.enable_truncation(config.max_length)
    weights = torch.randn(len(vocabulary), config.hidden_size) * STATIC_SPREAD
    return [StaticEmbedding(tokenizer, embedding_weights=weights), Normalize()]


def _bert(config: EncoderConfig, rows: TrainingRows, scratch: Path) -> list[Any]:
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        _save_new_bert(config, rows, Path(directory))
        transformer = Transformer(directory, max_seq_length=config.max_length)
    return [transformer, Pooling(config.hidden_size, "mean"), Normalize()]


def _save_new_bert(config: EncoderConfig, rows: TrainingRows, directory: Path) -> None:
    from transformers import BertModel

    tokenizer, bert = new_bert(config, [*rows.lines, *rows.titles], config.dropout, type_vocab_size=1)
    tokenizer.save_pretrained(directory)
    BertModel(bert, add_pooling_layer=False).save_pretrained(directory)


def new_bert(
    config: EncoderConfig | CrossTraining, texts: Sequence[str], dropout: float, **settings: Any
) -> tuple[BertTokenizer, BertConfig]:
    """Return a tokenizer trained on texts in normal form and the layout of a BERT over it, with more `settings`."""
    from transformers import BertConfig, BertTokenizer

    vocabulary = train_vocabulary(texts, config.vocab_size)
    tokenizer = BertTokenizer(
        vocab=vocabulary, do_lower_case=False, strip_accents=False, model_max_length=config.max_length
    )
    return tokenizer, BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate_size,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=config.max_length,
        pad_token_id=vocabulary["[PAD]"],
        **settings,
    )


def _given_model(config: EncoderConfig, base: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize

    local = Path(base).is_dir() or os.environ.get("HF_HUB_OFFLINE") == "1"
    model = SentenceTransformer(base, local_files_only=local)
    if not isinstance(model[-1], Normalize):
        model.append(Normalize())
    if is_static(model):
        model.tokenizer.enable_truncation(config.max_length)
    else:
        model.max_seq_length = min(config.max_length, model.max_seq_length or config.max_length)
    return model
