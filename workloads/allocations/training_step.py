"""What a transformer's training allocates and frees on one GPU: forward, backward and optimizer steps, op by op.

Sizes follow from the shapes of a model of workloads/models. What is kept for the backward pass is what Korthikanti et
al., "Reducing Activation Recomputation in Large Transformer Models" (MLSys 2023, arXiv 2205.05198), section 4, count:
of a layer with dropout and a feed-forward layer of 4 times its width, 34 s b h + 5 a s^2 b bytes at 2 bytes a number
(and beyond their sum, the statistics of norms: 16 s b). `recomputation`: full keeps the input of each layer alone
(2 s b h) and runs the layer again; selective computes scores, softmax and its dropout again (34 s b h). `attention`:
eager writes scores, flash does not, and keeps 4 bytes a head and token (Dao et al. 2022, arXiv 2205.14135), with a
float32 sum of the queries' gradients as its workspace in the backward pass. Models with experts, latent attention or
state spaces are refused.

The order of calls is PyTorch's in eager mode: each op makes its result, and lets go of what nobody needs any more; a
residual is added out of place; gradients of weights are made in the backward pass, and freed by
`zero_grad(set_to_none=True)`, or with `gradients: kept` made once and added to from buffers. Adam makes its states at
its first step: two moments, and a copy of the weights where these are not float32, all of 4 bytes; each weight's update
has a workspace of 4 bytes a number. cuBLAS has one workspace, PyTorch's default of 2 times 4096 and 8 times 16 KiB
(c10/cuda's and the "CUDA semantics" notes' `CUBLAS_WORKSPACE_CONFIG`). The loss is of logits in float32, as in Hugging
Face's models. Sequences are padded to the longest of a batch: `sequence_spread` draws that length anew for each step,
uniformly from the spread's part below `sequence`. Times say the order only, a microsecond a call. Neither data nor
parallelism between devices is modelled, nor fused kernels other than flash attention.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE, Operations, build_operations
from sim.fragmentation.source import AllocationSource
from sim.llm.models import Model, load_model
from sim.trace_options import Option

WEIGHT, GRADIENT, ACTIVATION, OPTIMIZER, WORKSPACE = range(5)
_KINDS = ("weight", "gradient", "activation", "optimizer", "workspace")
_FLOAT32 = 4
_CUBLAS_BYTES = 2 * (4096 << 10) + 8 * (16 << 10)


class Tape:
    """The calls so far. An object is known by a name as long as it lives."""

    def __init__(self):
        self.rows: list[tuple[int, int, int]] = []
        self.kinds: list[int] = []
        self.labels: list[str] = []
        self.live: dict[str, int] = {}

    def make(self, name: str, size_bytes: int, kind: int = ACTIVATION) -> str:
        assert name not in self.live, name
        self.live[name] = len(self.kinds)
        self.rows.append((ALLOCATE, len(self.kinds), size_bytes))
        self.kinds.append(kind)
        self.labels.append(name)
        return name

    def free(self, *names: str) -> None:
        for name in names:
            self.rows.append((RELEASE, self.live.pop(name), 0))

    def brief(self, name: str, size_bytes: int, kind: int) -> None:
        self.free(self.make(name, size_bytes, kind))


class Shape(NamedTuple):
    """Of one step; sizes in bytes."""

    batch: int
    sequence: int
    each: int  # bytes of a number
    model: Model

    @property
    def tokens(self) -> int:
        return self.batch * self.sequence

    @property
    def hidden(self) -> int:
        return self.tokens * self.model.hidden * self.each

    @property
    def queries(self) -> int:
        return self.tokens * self.model.attention.heads * self.model.attention.head_dim * self.each

    @property
    def keys(self) -> int:
        return self.tokens * self.model.attention.kv_heads * self.model.attention.head_dim * self.each

    @property
    def inner(self) -> int:
        return self.tokens * self.model.ffn.size * self.each

    @property
    def scores(self) -> int:
        return self.batch * self.model.attention.heads * self.sequence**2 * self.each

    @property
    def logits(self) -> int:
        return self.tokens * self.model.vocab

    @property
    def statistics(self) -> int:
        """Of a norm: the scale of each token, of a layer norm also its mean."""
        return self.tokens * _FLOAT32 * (2 if self.model.norms.kind == "layer_norm" else 1)

    @property
    def per_head(self) -> int:
        return self.tokens * self.model.attention.heads * _FLOAT32


class Layer:
    """One layer of a model on a tape; its objects are named after it. Where `keeps` is None nothing is recomputed."""

    def __init__(self, training: Training, number: int, shape: Shape):
        self.training, self.tape, self.shape = training, training.tape, shape
        self.number = number
        self.flash = training.options["attention"] == "flash"
        self.dropout = training.options["dropout"]
        self.gated, self.rope = shape.model.ffn.gated, shape.model.attention.rope
        self.saves = True

    def name(self, what: str) -> str:
        return f"layer {self.number} {what}"

    def make(self, what: str, size_bytes: int, kind: int = ACTIVATION) -> None:
        self.tape.make(self.name(what), size_bytes, kind)

    def free(self, *whats: str) -> None:
        self.tape.free(*map(self.name, whats))

    def unless_saved(self, *whats: str) -> None:
        """Let go of what only the backward pass needs, where it will be computed again."""
        if not self.saves:
            self.free(*whats)

    # --- forward

    def forward(self, saves: bool) -> None:
        """From "layer i input", which stays, to "layer i + 1 input"."""
        self.saves = saves
        s = self.shape
        self.norm("attention norm")
        self.attention()
        self.make("attention output", s.hidden)
        self.unless_saved("attention context")
        self.residual("attention output", "middle", s.hidden)
        self.norm("ffn norm")
        self.feed_forward()
        self.make("ffn output", s.hidden)
        self.unless_saved("ffn product" if self.gated else "ffn activation")
        self.residual("ffn output", None, s.hidden)
        self.unless_saved("middle")

    def norm(self, what: str) -> None:
        self.make(what, self.shape.hidden)
        self.make(f"{what} statistics", self.shape.statistics)
        self.unless_saved(f"{what} statistics")

    def residual(self, what: str, result: str | None, size: int) -> None:
        """Add to the stream; a result without a name is the next layer's input."""
        if self.dropout:
            self.make(f"{what} dropped", size)
            self.make(f"{what} mask", size // self.shape.each)
            self.free(what)
            self.unless_saved(f"{what} mask")
            what = f"{what} dropped"
        self.tape.make(f"layer {self.number + 1} input" if result is None else self.name(result), size)
        self.free(what)

    def attention(self) -> None:
        s = self.shape
        for what, size in (("queries", s.queries), ("keys", s.keys), ("values", s.keys)):
            self.make(what, size)
        self.unless_saved("attention norm")
        if self.rope:
            for what, size in (("queries", s.queries), ("keys", s.keys)):
                self.make(f"rotated {what}", size)
                self.free(what)
        if self.flash:
            self.make("attention context", s.queries)
            self.make("attention sums", s.per_head)
            self.unless_saved("attention sums")
        else:
            self.scores()
            self.make("attention context", s.queries)
            if not self.saves or self.training.options["recomputation"] == "selective":
                self.free(*self.of_scores())
        self.unless_saved(self.q, self.k, "values")

    @property
    def q(self) -> str:
        return "rotated queries" if self.rope else "queries"

    @property
    def k(self) -> str:
        return "rotated keys" if self.rope else "keys"

    def scores(self) -> None:
        """What is computed anew under selective recomputation."""
        s = self.shape
        self.make("attention scores", s.scores)
        self.make("attention softmax", s.scores)
        self.free("attention scores")
        if self.dropout:
            self.make("attention dropped", s.scores)
            self.make("attention mask", s.scores // s.each)

    def of_scores(self) -> list[str]:
        return ["attention softmax", "attention dropped", "attention mask"] if self.dropout else ["attention softmax"]

    def feed_forward(self) -> None:
        s = self.shape
        if not self.gated:
            self.make("ffn up", s.inner)
            self.unless_saved("ffn norm")
            self.make("ffn activation", s.inner)
            self.unless_saved("ffn up")
            return
        self.make("ffn gate", s.inner)
        self.make("ffn activation", s.inner)
        self.unless_saved("ffn gate")
        self.make("ffn up", s.inner)
        self.unless_saved("ffn norm")
        self.make("ffn product", s.inner)
        self.unless_saved("ffn activation", "ffn up")

    # --- backward; "gradient of x" is the gradient that x's op was given or has made

    def backward(self, recomputes: bool) -> None:
        """From "layer i + 1 gradient" to "layer i gradient"."""
        if recomputes:
            self.forward(saves=True)
            self.tape.free(f"layer {self.number + 1} input")  # the result, which nobody needs
        s = self.shape
        outer = f"layer {self.number + 1} gradient"
        self.feed_forward_backward(self.dropped_backward("ffn output", outer))
        self.norm_backward("ffn norm", "middle", outer, self.name("middle gradient"))
        middle = self.name("middle gradient")
        given = self.dropped_backward("attention output", middle)
        self.make("gradient of context", s.queries)
        self.training.weight_gradient(self.name("output weight"))
        self.done_with(given, middle)
        self.attention_backward()
        self.input_gradient("attention norm", "queries", "keys", "values")
        self.norm_backward("attention norm", "input", middle, self.name("gradient"))

    def dropped_backward(self, what: str, given: str) -> str:
        """The gradient of what was dropped out before it was added: a new one where there was dropout."""
        if not self.dropout:
            return given
        self.make(f"gradient of {what}", self.shape.hidden)
        self.free(f"{what} mask")
        return self.name(f"gradient of {what}")

    def done_with(self, given: str, outer: str) -> None:
        if given != outer:
            self.tape.free(given)

    def feed_forward_backward(self, given: str) -> None:
        s, outer = self.shape, f"layer {self.number + 1} gradient"
        last = "product" if self.gated else "activation"
        self.make(f"gradient of {last}", s.inner)
        self.training.weight_gradient(self.name("down weight"))
        self.done_with(given, outer)
        self.free(f"ffn {last}")
        if self.gated:
            self.make("gradient of activation", s.inner)
            self.make("gradient of up", s.inner)
            self.free("gradient of product", "ffn activation", "ffn up")
            self.make("gradient of gate", s.inner)
            self.free("gradient of activation", "ffn gate")
            self.input_gradient("ffn norm", "gate", "up")
        else:
            self.make("gradient of up", s.inner)
            self.free("gradient of activation", "ffn up")
            self.input_gradient("ffn norm", "up")

    def input_gradient(self, source: str, *products: str) -> None:
        """Through products of the same input, whose gradients are summed up."""
        for at, what in enumerate(products):
            part = f"gradient of {source}" + (f" by {what}" if at else "")
            self.make(part, self.shape.hidden)
            self.training.weight_gradient(self.name(f"{what} weight"))
            self.free(f"gradient of {what}")
            if at:
                self.free(part)  # added in place
        self.free(source)

    def norm_backward(self, what: str, source: str, outer: str, result: str) -> None:
        self.make(f"gradient through {what}", self.shape.hidden)
        self.training.weight_gradient(self.name(f"{what} weight"))
        self.free(f"gradient of {what}", f"{what} statistics", source)
        self.tape.make(result, self.shape.hidden)
        self.tape.free(outer)
        self.free(f"gradient through {what}")

    def attention_backward(self) -> None:
        s = self.shape
        if self.flash:
            self.make("attention workspace", s.queries // s.each * _FLOAT32, WORKSPACE)
            self.make("gradient of queries", s.queries)
            self.make("gradient of keys", s.keys)
            self.make("gradient of values", s.keys)
            self.free("attention workspace", "gradient of context", "attention context", "attention sums", "values")
        else:
            self.free("attention context")
            self.scores_backward()
        self.free(self.q, self.k)
        if self.rope:
            for what, size in (("queries", s.queries), ("keys", s.keys)):
                self.make(f"gradient of unrotated {what}", size)
                self.free(f"gradient of {what}")
                self.tape.live[self.name(f"gradient of {what}")] = self.tape.live.pop(
                    self.name(f"gradient of unrotated {what}")
                )

    def scores_backward(self) -> None:
        s = self.shape
        if self.training.options["recomputation"] == "selective":
            self.scores()
        last = "dropped" if self.dropout else "softmax"
        self.make(f"gradient of {last}", s.scores)
        self.make("gradient of values", s.keys)
        self.free("gradient of context", "values")
        if self.dropout:
            self.free("attention dropped")
            self.make("gradient of softmax", s.scores)
            self.free("gradient of dropped", "attention mask")
        self.make("gradient of scores", s.scores)
        self.free("gradient of softmax", "attention softmax")
        self.make("gradient of queries", s.queries)
        self.make("gradient of keys", s.keys)
        self.free("gradient of scores")


class Training:
    """A model in training, on one tape."""

    def __init__(self, model: Model, options: dict[str, Any]):
        self.model, self.options, self.tape = model, options, Tape()
        self.each = options["dtype_bytes"] or model.dtype_bytes
        self.weights = _weights(model)
        for name, numbers in self.weights.items():
            self.tape.make(name, numbers * self.each, WEIGHT)
        self.tape.make("cuBLAS workspace", _CUBLAS_BYTES, WORKSPACE)
        self.steps = 0

    def weight_gradient(self, weight: str) -> None:
        """A gradient that becomes the weight's, or is added to the one it has."""
        name, size = f"{weight} gradient", self.weights[weight] * self.each
        if name in self.tape.live:
            self.tape.brief(f"{name} buffer", size, GRADIENT)
        else:
            self.tape.make(name, size, GRADIENT)

    def step(self, sequence: int) -> None:
        shape = Shape(self.options["batch"], sequence, self.each, self.model)
        layers = [Layer(self, number, shape) for number in range(self.model.layers)]
        full = self.options["recomputation"] == "full"
        self.tape.make("tokens", shape.tokens * 8)
        self.tape.make("layer 0 input", shape.hidden)
        for layer in layers:
            layer.forward(saves=not full)
        self.loss(shape)
        for layer in reversed(layers):
            layer.backward(recomputes=full)
        self.weight_gradient("embedding weight")
        if self.model.learned_positions:
            self.weight_gradient("position weight")
        self.tape.free("layer 0 gradient", "tokens")
        self.update()

    def loss(self, shape: Shape) -> None:
        """Final norm, head and cross entropy, forward and backward: to the gradient of the last layer's result."""
        tape, last = self.tape, f"layer {self.model.layers}"
        tape.make("final norm", shape.hidden)
        tape.make("final norm statistics", shape.statistics)
        tape.make("logits", shape.logits * self.each)
        tape.make("logits in float32", shape.logits * _FLOAT32)
        tape.make("log softmax", shape.logits * _FLOAT32)
        tape.free("logits in float32")
        tape.make("loss", _FLOAT32)
        tape.make("gradient of log softmax", shape.logits * _FLOAT32)
        tape.make("gradient of logits in float32", shape.logits * _FLOAT32)
        tape.free("gradient of log softmax", "log softmax")
        tape.make("gradient of logits", shape.logits * self.each)
        tape.free("gradient of logits in float32", "logits")
        tape.make("gradient of final norm", shape.hidden)
        self.weight_gradient("embedding weight" if self.model.tied_embeddings else "head weight")
        tape.free("gradient of logits", "final norm")
        tape.make(f"{last} gradient", shape.hidden)
        self.weight_gradient("final norm weight")
        tape.free("gradient of final norm", "final norm statistics", f"{last} input", "loss")

    def update(self) -> None:
        if self.options["optimizer"] == "adam":
            states = ["first moment", "second moment"] + (["master copy"] if self.each != _FLOAT32 else [])
            for weight, numbers in self.weights.items():
                if self.steps == 0:
                    for state in states:
                        self.tape.make(f"{weight} {state}", numbers * _FLOAT32, OPTIMIZER)
                self.tape.brief(f"{weight} update", numbers * _FLOAT32, WORKSPACE)
        if self.options["gradients"] == "freed":
            self.tape.free(*(f"{weight} gradient" for weight in self.weights))
        self.steps += 1


def _weights(model: Model) -> dict[str, int]:
    """Numbers of each weight, biases included with theirs, in the order in which a module makes them."""
    a, hidden, ffn = model.attention, model.hidden, model.ffn
    norm = hidden * (2 if model.norms.kind == "layer_norm" else 1)
    queries, keys, biased = a.heads * a.head_dim, a.kv_heads * a.head_dim, a.bias != "none"
    weights = {"embedding weight": model.vocab * hidden}
    if model.learned_positions:
        weights["position weight"] = model.learned_positions * hidden
    ups = ("gate", "up") if ffn.gated else ("up",)
    for number in range(model.layers):
        of_layer = {"attention norm": norm}
        for what, width in (("queries", queries), ("keys", keys), ("values", keys)):
            of_layer[what] = (hidden + biased) * width
        of_layer["output"] = (queries + (a.bias == "all")) * hidden
        of_layer["ffn norm"] = norm
        for what in ups:
            of_layer[what] = (hidden + ffn.bias) * ffn.size
        of_layer["down"] = (ffn.size + ffn.bias) * hidden
        weights |= {f"layer {number} {what} weight": numbers for what, numbers in of_layer.items()}
    weights["final norm weight"] = norm
    if not model.tied_embeddings:
        weights["head weight"] = model.vocab * hidden
    return weights


def generate(options: dict[str, Any]) -> Operations:
    model = load_model(options["model"])
    for what in ("experts", "mla", "ssm"):
        if getattr(model, what):
            raise InputError(f"training of a model with {what!r} is not modelled:", value=model.name)
    training = Training(model, options)
    rng = np.random.default_rng(options["seed"])
    shortest = options["sequence"] * (1 - options["sequence_spread"])
    for drawn in rng.uniform(shortest, options["sequence"], options["steps"]):
        training.step(max(1, round(drawn)) if options["sequence_spread"] else options["sequence"])
    tape = training.tape
    op, number, size = np.array(tape.rows, np.int64).T
    name = f"training_step {model.name}"
    time_ns = np.arange(op.size) * 1000.0
    return build_operations(
        name, time_ns, op, number, size, kind=np.array(tape.kinds), kinds=_KINDS, labels=tape.labels
    )


SOURCE = AllocationSource(
    name="training_step",
    description="what training a transformer allocates on one GPU, by its shapes: forward, backward, optimizer steps",
    options={
        "model": Option("llama2_7b", "name of a model, or path of its file"),
        "batch": Option(1, "sequences of a step", at_least=1, at_most=1 << 20),
        "sequence": Option(2048, "tokens of a sequence, the longest", at_least=1, at_most=1 << 24),
        "sequence_spread": Option(
            0.0, "each step's sequences are shorter by up to this part, drawn uniformly", at_least=0.0, at_most=1.0
        ),
        "steps": Option(3, "training steps", at_least=1, at_most=100_000),
        "dtype_bytes": Option(
            None, "of weights, gradients and activations; by default the model's", kind=int, at_least=1, at_most=8
        ),
        "attention": Option("eager", "whether scores are written to memory", choices=("eager", "flash")),
        "dropout": Option(True, "after attention's softmax, attention and the feed-forward layer"),
        "recomputation": Option(
            "none", "what of a layer is computed again in the backward pass", choices=("none", "selective", "full")
        ),
        "optimizer": Option("adam", "what updates the weights; none has no states", choices=("adam", "none")),
        "gradients": Option("freed", "what becomes of gradients after a step", choices=("freed", "kept")),
        "seed": Option(0, "of the lengths", at_least=0),
    },
    generate=generate,
)
