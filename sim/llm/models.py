"""YAML -> a frozen `Model`: the shape of a large language model, from which parameters, bytes and FLOPs are derived.

workloads/models has one model a file; `load_model` reads a shipped name or a path. Nothing that follows from the shape
is written in a file. Whatever is wrong with one is reported at once, with file, line, field and nearest name.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

import workloads
from sim.errors import InputError, InputErrors
from sim.profile import Count, Name, Source, Text, validate
from sim.remembering import remembered
from sim.yaml_document import Document, read_document

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}
BIASES = ("none", "qkv", "all")
NORMS = ("rms_norm", "layer_norm")
_MOST_BITS = 32.0


def _one_of(names: tuple[str, ...]):
    def check(value: object) -> str:
        if value not in names:
            raise InputError("unknown value", value=value, candidates=names)
        return value

    return check


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**20:
        raise InputError("not a count:", value=value, expected=f"a whole number from 0 to {2**20}")
    return value


def _bits(value: object) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= _MOST_BITS
    if not fits:
        raise InputError("not a width:", value=value, expected=f"bits of a weight, 1 to {_MOST_BITS:.0f}")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise InputError("not a choice:", value=value, expected="true or false")
    return value


Natural = Annotated[int, BeforeValidator(_natural)]
Bits = Annotated[float, BeforeValidator(_bits)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Dtype = Annotated[str, BeforeValidator(_one_of(tuple(DTYPE_BYTES)))]
Bias = Annotated[str, BeforeValidator(_one_of(BIASES))]
NormKind = Annotated[str, BeforeValidator(_one_of(NORMS))]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _whole_groups(attention: Attention) -> Attention:
    if attention.heads % attention.kv_heads:
        expected = f"a divisor of its {attention.heads} heads"
        raise InputError("kv_heads do not divide heads:", value=attention.kv_heads, expected=expected)
    return attention


class Attention(_Shape):
    """Heads of queries and of keys and values, each of head_dim; bias: on none, on q, k, v, or on the output, too."""

    heads: Count
    kv_heads: Count
    head_dim: Count
    rope: Flag = True
    bias: Bias = "none"


class Mla(_Shape):
    """Multi-head latent attention: ranks of the latents, and the parts of a head with and without position."""

    q_rank: Natural
    kv_rank: Count
    rope_dim: Count
    nope_dim: Count
    value_dim: Count


class Ffn(_Shape):
    """A dense feed-forward layer; gated: two projections up and one down, otherwise one up."""

    size: Count
    gated: Flag = True
    bias: Flag = False


def _few_active(experts: Experts) -> Experts:
    if experts.active > experts.count:
        raise InputError("more experts active than there are:", value=experts.active, expected=f"<= {experts.count}")
    return experts


class Experts(_Shape):
    """Gated experts in layers `first`, `first + every`, ...: `count` of `size`, `active` a token, `shared` always.

    weight_bits: of their weights alone, where they are stored in another width than the rest.
    """

    count: Count
    active: Count
    size: Count
    shared: Natural = 0
    first: Natural = 0
    every: Count = 1
    bias: Flag = False
    weight_bits: Bits | None = None


class SlidingWindow(_Shape):
    """Of each `period` layers the last `full` see all tokens, the others the last `tokens`."""

    tokens: Count
    period: Count
    full: Natural


class Ssm(_Shape):
    """Mamba layers, but for one of attention in each `attention_every`, at `attention_first` among them.

    Width inside: expand * hidden; per channel a state of `state` numbers and a convolution over `convolution` tokens;
    rank: of the time step.
    """

    attention_every: Count
    attention_first: Natural
    state: Count
    convolution: Count
    expand: Count
    rank: Count


class Norms(_Shape):
    """of_heads: queries and keys are normed, too; after: what attention and feed-forward give is normed, too."""

    kind: NormKind = "rms_norm"
    of_heads: Flag = False
    after: Flag = False


class Model(_Shape):
    """The shape of one model. dtype: of activations and KV cache; weight_bits: of weights, where they are of another
    width; context: the most tokens of a sequence.
    """

    name: Name
    description: Text
    source: Source
    dtype: Dtype
    layers: Count
    hidden: Count
    vocab: Count
    context: Annotated[int, BeforeValidator(_natural)]
    attention: Annotated[Attention, AfterValidator(_whole_groups)]
    ffn: Ffn | None = None
    experts: Annotated[Experts, AfterValidator(_few_active)] | None = None
    mla: Mla | None = None
    sliding_window: SlidingWindow | None = None
    ssm: Ssm | None = None
    norms: Norms = Norms()
    tied_embeddings: Flag = False
    learned_positions: Natural = 0
    weight_bits: Bits | None = None

    @property
    def dtype_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]

    @property
    def weight_bytes_each(self) -> float:
        """Bytes of a weight outside the experts."""
        return self.dtype_bytes if self.weight_bits is None else self.weight_bits / 8

    @property
    def expert_bytes_each(self) -> float:
        """Bytes of a weight of an expert."""
        own = self.experts.weight_bits if self.experts else None
        return self.weight_bytes_each if own is None else own / 8

    # --- how many layers of each sort

    @property
    def ssm_layers(self) -> int:
        return self.layers - self.attention_layers

    @property
    def attention_layers(self) -> int:
        if self.ssm is None:
            return self.layers
        return len(range(self.ssm.attention_first, self.layers, self.ssm.attention_every))

    @property
    def full_layers(self) -> int:
        """Layers of attention that see all tokens."""
        window = self.sliding_window
        if window is None:
            return self.attention_layers
        return sum(layer % window.period >= window.period - window.full for layer in range(self.layers))

    @property
    def window_layers(self) -> int:
        return self.attention_layers - self.full_layers

    @property
    def expert_layers(self) -> int:
        return 0 if self.experts is None else len(range(self.experts.first, self.layers, self.experts.every))

    @property
    def dense_layers(self) -> int:
        return self.layers - self.expert_layers

    @property
    def window_tokens(self) -> int:
        """What a windowed layer sees; the whole context where there is none."""
        return self.sliding_window.tokens if self.sliding_window else self.context


@remembered
def load_model(name_or_path: str | Path) -> Model:
    """The model of a shipped name or of a YAML file. Raises InputErrors that list everything wrong."""
    document = read_document(_locate(name_or_path))
    model, errors = validate(Model, document)
    errors = errors or _inconsistent(model, document)
    if errors:
        raise errors[0] if len(errors) == 1 else InputErrors(errors)
    return model


def model_names() -> list[str]:
    """Shipped models, sorted."""
    return list(_shipped())


@functools.cache
def _shipped() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def _folder() -> Path:
    return Path(workloads.__file__).parent / "models"


def _locate(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    if text in _shipped():
        return _folder() / f"{text}.yaml"
    raise InputError("unknown model", value=text, candidates=_shipped())


def _inconsistent(model: Model, document: Document) -> list[InputError]:
    """What no single field shows."""
    errors = []
    if model.name != document.file.stem:
        expected = f"the file's own, {document.file.stem!r}"
        errors.append(document.error("name", ("name",), value=model.name, expected=expected))
    if model.context == 0:
        errors.append(document.error("no context:", ("context",), value=0, expected="tokens, at least one"))
    if model.dense_layers and model.ffn is None:
        problem = f"{model.dense_layers} layers have no experts and there is no 'ffn'"
        errors.append(document.error(problem, ()))
    window, ssm = model.sliding_window, model.ssm
    if window and window.full > window.period:
        expected = f"at most the period, {window.period}"
        errors.append(document.error("full", ("sliding_window", "full"), value=window.full, expected=expected))
    for name in ("sliding_window", "mla"):
        if ssm and getattr(model, name):
            errors.append(document.error(f"'ssm' together with {name!r} is not modelled", ("ssm",)))
    if window and model.mla:
        errors.append(document.error("'mla' together with 'sliding_window' is not modelled", ("mla",)))
    return errors
