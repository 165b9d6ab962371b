"""The recipe as records: every dial of a run, its range, its default and what it is for.

``None`` means "decided by the pipeline from the data, the teacher or the family, and written down in the run's
``recipe.yaml``". Descriptions become the JSON schema and the generated docs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

Name = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
MemberName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w-]*$")]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Auto = Literal["auto"]
View = Literal["drop_words", "swap_words", "replace_words", "masked_words", "shift", "rotate", "crop", "flip", "mixup"]


def _allows_bool(annotation: Any) -> bool:
    return annotation is bool or any(_allows_bool(part) for part in get_args(annotation))


class Section(BaseModel):
    """Frozen; unknown keys, infinities and booleans in the place of numbers or strings are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_stray_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would read `true` as 1, and YAML reads a bare `yes` as `true`
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and not _allows_bool(annotation):
            raise PydanticCustomError("stray_boolean", "a boolean where none belongs")
        return value


class Member(Section):
    """One of several teachers that teach as one."""

    path: Name | None = Field(None, description="As teacher.path, which stands where this is unset.")
    seed: Seed | None = Field(None, description="Seed of its training; teacher.seed when unset.")
    weight: Positive = Field(1.0, description="How much it counts; the weights are divided by their sum.")
    width: Count | None = Field(None, description="Width of a built-in image member; teacher.width when unset.")
    labels: Annotated[tuple[Name, ...], Field(min_length=2)] | None = Field(
        None, description="The labels that it knows, at least two; all of the data's when unset."
    )


class Teacher(Section):
    """Where knowledge comes from."""

    path: Name | None = Field(
        None,
        description="Folder or hub name of a transformers model; what is built in: cnn, mlp (images), boosting "
        "(tables); or the base URL of an OpenAI-compatible endpoint that labels texts.",
    )
    model: Name | None = Field(None, description="An endpoint's name of the model.")
    instruction: Name | None = Field(
        None, description="What an endpoint is told before the list of labels; a plain question when unset."
    )
    quality: Literal["auto", "full", "top", "votes"] = Field(
        "auto",
        description="What an endpoint must say of a row: full, the log-probability of every label; top, of the "
        "likeliest; votes, one label; auto: the best that three rows show, and then no less.",
    )
    max_requests: Count | None = Field(None, description="Most requests to an endpoint by one call, retries included.")
    max_cost: float | None = Field(None, ge=0, description="Most money for all answers of an endpoint to these rows.")
    price_in: float | None = Field(None, ge=0, description="Price of a million tokens that an endpoint reads.")
    price_out: float | None = Field(None, ge=0, description="Price of a million tokens that an endpoint writes.")
    concurrency: Count = Field(8, description="Most requests under way at once.")
    timeout: Positive = Field(120.0, description="Seconds until a request is given up.")
    retries: int = Field(4, ge=0, description="Tries after a rate limit or an error of the server.")
    key_env: Name = Field(
        "OPENAI_API_KEY", description="Environment variable that holds an endpoint's key; none: it wants no key."
    )
    fine_tune: Literal["auto", "always", "never"] = Field(
        "auto", description="Train the teacher on the data first; auto: when its head does not fit the labels."
    )
    epochs: Count | None = Field(
        None, description="Passes over the data when the teacher is trained; by kind when unset."
    )
    learning_rate: Positive | None = Field(
        None, description="Peak learning rate when the teacher is trained; by kind when unset (encoders: 1.5e-4)."
    )
    batch_size: Count = Field(32, description="Rows per optimiser step when the teacher is trained.")
    width: Count | None = Field(None, description="Channels (cnn) or hidden units (mlp) of a built-in image teacher.")
    dropout: Dropout | None = Field(None, description="Dropout of a built-in image teacher; by family when unset.")
    targets: Literal["auto", "stored", "live"] = Field(
        "auto",
        description="stored: the teacher answers each row once, ever; live: it runs in every step; "
        "auto: stored where logits are all that the objective reads, and the same in every epoch.",
    )
    kept: Count = Field(8, description="Stored tokens of a causal-lm: so many of the likeliest, exactly.")
    drawn: Count = Field(16, description="Stored tokens of a causal-lm: so many drawn from all others.")
    log_p_bits: Literal[16, 8] = Field(
        16,
        description="Stored tokens of a causal-lm: bits of each log-probability; 8: at most 0.08 nats off above -20.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="When the teacher is trained; auto: bf16 where a short probe finds it faster."
    )
    jitter: int = Field(0, ge=0, le=8, description="Random shift, in pixels, of images while a teacher is trained.")
    seed: Seed = Field(
        0, description="Seed of the teacher's training; its own, so that another seed of a run asks nobody again."
    )
    members: Annotated[dict[MemberName, Member], Field(min_length=1)] | None = Field(
        None, description="Several teachers as one: a name of your own -> path, seed, weight, width, labels."
    )
    space: Literal["probabilities", "logits"] = Field(
        "probabilities", description="What is averaged over the members: their probabilities, or their logits."
    )
    calibrate: bool = Field(True, description="Fit each member's temperature on validation before they are joined.")


class Data(Section):
    """What is learnt from."""

    path: Name = Field(
        description="Folder with train|validation|test|unlabelled.{parquet,csv,jsonl}, one file, or a hub name."
    )
    text: Name = Field("text", description="Column that holds the text.")
    label: Name = Field("label", description="Column that holds the label; empty cells are unlabelled rows.")
    image: Name = Field("image", description="Column that holds the image.")
    validation_share: float = Field(
        0.1, gt=0, le=0.5, description="Share cut from training rows without a validation split."
    )
    test_share: float = Field(
        0.1, gt=0, le=0.5, description="Share cut from training rows where there is no test split."
    )
    views: int = Field(
        0, ge=0, le=20, description="Changed copies of every row to learn from, which the teacher labels; 0: none."
    )
    moves: tuple[View, ...] | None = Field(
        None,
        description="What a view changes, in order; drop_words and swap_words for texts, shift for images if unset.",
    )
    masked_model: Name | None = Field(
        None, description="Folder of the masked language model that masked_words asks for other words."
    )
    limit: int | None = Field(
        None,
        ge=4,
        description="Longest text in sub-word tokens (conv, gru, transformer: in words); from the data when unset.",
    )


class Student(Section):
    """What learns."""

    family: Literal["static", "ngram", "conv", "gru", "transformer", "cut", "cnn", "mlp", "auto"] = Field(
        description="static: a bag of word vectors; ngram: hashed vectors and one matrix; conv, gru, transformer: "
        "words in order; cut: less of the teacher (layers, width, sub-words); cnn, mlp: for images; auto: the most "
        "capable family and sizes that keep within export.max_mb and export.max_ms, by measurement."
    )
    layers: Count | tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        description="cut: how many layers, or which ones ([0, 2, 4]); unset: half of them, or all where a width, "
        "feed_forward or rank is said.",
    )
    folder: Name | None = Field(
        None,
        description="cut: folder of an encoder that it is cut from in the teacher's place, such as RUN/student of a "
        "masked-language-model; unset layers are then all of its layers. A causal-lm without a teacher starts "
        "there and learns from texts alone.",
    )
    spread: Literal["uniform", "first", "last"] = Field(
        "uniform", description="cut: which layers so many are: evenly spread, the first or the last."
    )
    initialise: bool = Field(
        True, description="Start from the teacher's weights (cut) or vectors (families that read words)."
    )
    dimensions: Count | None = Field(None, description="Width of a word vector; by family when unset.")
    hidden: Count | None = Field(
        None, description="Width of the head's hidden layer, of families that read words; by family when unset."
    )
    words: int = Field(
        30_000,
        ge=0,
        description="Most words in the vocabulary of families that read words; 0: no vocabulary, words are hashed too.",
    )
    buckets: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Hashed entries for unknown words, and for word pairs and character n-grams (static, ngram); 0: "
        "none; by family when unset.",
    )
    pairs: bool = Field(True, description="static, ngram: word pairs as features.")
    characters: int = Field(4, ge=0, le=8, description="static, ngram: length of character n-grams; 0: none.")
    feature_dropout: Dropout | None = Field(
        None,
        description="Share of a row's words (static, ngram: of all its features) dropped in training; by family when "
        "unset.",
    )
    embedding: Count | None = Field(
        None,
        description="sentence-embedding: width of the vectors; unset: dimensions of a static student, 256 of others; "
        "a cut student's are as wide as its layers.",
    )
    width: Count | None = Field(
        None,
        description="cut: hidden size; cnn: channels; conv: filters of each size; gru: units; transformer: width; "
        "mlp: hidden units; as the teacher or by family when unset.",
    )
    blocks: Literal["plain", "depthwise"] = Field(
        "plain", description="cnn: depthwise: each channel's neighbourhood, then the channels of each point."
    )
    heads: Count | None = Field(
        None, description="cut: attention heads; unset: as many as keep the teacher's head size."
    )
    feed_forward: Count | None = Field(None, description="cut: units between the two layers of a feed-forward block.")
    choose: Literal["importance", "pca"] = Field(
        "importance",
        description="cut: importance copies the channels, heads and units that matter most on training rows; pca "
        "projects the channels onto their principal directions.",
    )
    vocabulary: Count | None = Field(
        None,
        description="cut: most sub-words, those that the training and unlabelled texts use most often; unset: all.",
    )
    rank: Count | None = Field(
        None, description="cut: the table of sub-words becomes two factors of this rank; unset: it stays whole."
    )
    depth: Count = Field(2, description="mlp: hidden layers; transformer: layers.")
    dropout: Dropout = Field(0.1, description="Dropout in the student's head or layers.")
    exits: tuple[Count, ...] | Literal["all"] | None = Field(
        None, description="cut, cnn: layers or stages, from 1, after which it may answer; all: each but the last."
    )
    start: Name | None = Field(None, description="Name of the step whose weights it starts from.")


class Objective(Section):
    """What must match: alpha * hard + (1 - alpha) * temperature^2 * KL(teacher || student), or a list of terms."""

    terms: tuple[dict[Name, dict[str, Any]], ...] | None = Field(
        None,
        description="What must match, as `- term: {weight: ...}`; `shorthand` stands for alpha and temperature; "
        "`understudy objectives` lists the terms.",
    )
    balance: Literal["none", "gradients"] = Field(
        "none", description="gradients: weights are shares of the gradient, measured on the first batches."
    )

    temperature: Annotated[float, Field(gt=0)] | Auto | None = Field(
        None,
        description="Softens both sides; auto: chosen on validation; unset: auto for families of words, 4 otherwise.",
    )
    alpha: Share | Auto = Field(0.1, description="Weight of the hard labels, 0 to 1; auto: chosen on validation.")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare classes weigh more in hard terms."
    )
    on_policy_share: Share = Field(
        0.0,
        description="causal-lm: share of the batches that the student writes itself, after prompts or first halves of "
        "texts: it is compared with its teacher there, and labels do not count.",
    )
    rollout_temperature: Positive = Field(
        1.0, description="causal-lm: temperature at which the student draws what it writes; not that of the objective."
    )
    rollout_tokens: Count = Field(64, description="causal-lm: most tokens that the student writes of a row.")


class Train(Section):
    """How the student, and its twin, are trained."""

    epochs: Count | None = Field(None, description="Most passes over the data; by family when unset.")
    batch_size: Count | None = Field(None, description="Rows per micro-batch; by family when unset.")
    accumulation: Count = Field(1, description="Micro-batches per optimiser step; changes neither loss nor gradient.")
    learning_rate: Positive | None = Field(None, description="Peak learning rate; by family when unset.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay.")
    warmup: Share = Field(0.06, description="Share of the steps in which the learning rate rises.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the learning rate falls after it."
    )
    clip: float = Field(1.0, ge=0, description="Largest gradient norm; 0: no clipping.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where a short probe finds it faster."
    )
    patience: Count | None = Field(
        None, description="Epochs without a better validation before stopping; unset: never."
    )
    max_steps: Count | None = Field(None, description="Most optimiser steps, whatever the epochs say.")
    bucket: bool = Field(True, description="Batches of similar length.")
    checkpoint_seconds: float = Field(60.0, ge=0, description="Seconds between sealed checkpoints; 0: every step.")
    track: Name | None = Field(None, description="An accelerate tracker by name, such as tensorboard.")


class Export(Section):
    """The gates between a trained student and an artefact."""

    max_drop: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None,
        description="Gate: most points of the metric that INT8, and exits, may lose; unset: 0.5, of losses of tokens 5 "
        "(hundredths of a nat).",
    )
    max_ms: Positive | None = Field(
        None, description="Gate: most milliseconds (p95) for one row from raw input to label."
    )
    max_mb: Positive | None = Field(
        None, description="Gate: most megabytes (1e6 bytes) of the artefact, vocabulary included."
    )
    bits: int = Field(8, description="Bits of a number in the table of a static or ngram student: 8 or 4.")
    floors: dict[str, Share] = Field({}, description="Gate: label -> lowest recall on validation.")
    calibration_rows: Count = Field(512, description="Training rows that calibrate a static INT8 graph.")
    ladder: Literal["auto", "off"] = Field(
        "auto",
        description="auto: where INT8 loses more than max_drop, sensitive nodes stay in fp32, then the student is "
        "trained with rounding inside it; off: one try.",
    )

    @field_validator("bits")
    @classmethod
    def _eight_or_four(cls, value: int) -> int:
        if value not in (8, 4):
            raise ValueError(f"export.bits: got {value}, wanted 8 or 4")
        return value


class Evaluation(Section):
    """What is measured, on a test split that is opened once."""

    metric: Name | None = Field(
        None, description="Primary metric (accuracy, macro_f1, ...); the task's own when unset."
    )
    margin: float = Field(0.5, ge=0, le=100, description="Points within which student and twin count as equal.")
    threads: Count | None = Field(None, description="Threads for latency and throughput; unset: 1.")
    out_of_scope: Name | None = Field(
        None, description="Label that means none of the others (AUROC, in-scope accuracy)."
    )
    calls_per_day: Positive | None = Field(None, description="Expected load, for the break-even.")
    teacher_cost_per_million: Positive | None = Field(None, description="What a million teacher calls cost now.")
    machine_cost_per_hour: Positive | None = Field(None, description="Price of an hour of the machine that serves.")
    latency_rows: Annotated[int, Field(ge=20)] = Field(300, description="Rows timed one by one for p50, p95 and p99.")
    written_rows: Annotated[int, Field(ge=0)] = Field(
        64,
        description="causal-lm, prompts with completions: test prompts after which teacher, twin and student write; 0: "
        "none.",
    )
    written_tokens: Count = Field(128, description="causal-lm: most tokens that each writes of a prompt.")


class Step(Section):
    """A training before the last one: of an assistant, of a generation, or of the student itself."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")] = Field(
        description="Lower-case letters, digits and dashes: its folder is RUN/steps/NAME."
    )
    learns_from: Name = Field("teacher", description="teacher, or the name of an earlier step.")
    size: Literal["same", "between"] = Field(
        "same", description="between: halfway from the student to the teacher, as an assistant is."
    )
    share: Share = Field(1.0, gt=0, description="Its epochs, as a share of train.epochs.")
    student: dict[str, Any] = Field({}, description="What differs from the recipe's student.")
    objective: dict[str, Any] = Field({}, description="What differs from the recipe's objective.")
    train: dict[str, Any] = Field({}, description="What differs from the recipe's train.")


class Recipe(Section):
    """One run: what is distilled into what, from which data, how, and what must hold at the end."""

    task: Name | None = Field(
        None,
        description="text-classification, pair-classification, multi-label, regression, token-classification, "
        "question-answering, sentence-embedding, masked-language-model, causal-lm, "
        "image-classification, tabular-classification or tabular-regression; "
        "from the columns and the labels when unset.",
    )
    seed: Seed = Field(0, description="Seed of everything random.")
    seeds: int = Field(1, ge=1, le=20, description="How many times student and twin are trained, from seed on.")
    store: Name | None = Field(None, description="Folder of teachers and targets; .store beside the run when unset.")
    teacher: Teacher = Field(Teacher(), description="Where knowledge comes from.")
    data: Data = Field(description="What is learnt from.")
    student: Student = Field(description="What learns.")
    objective: Objective = Field(Objective(), description="What must match.")
    train: Train = Field(Train(), description="How student and twin are trained.")
    steps: tuple[Step, ...] = Field((), description="Trainings before the student's last one, in order.")
    learns_from: Name = Field("teacher", description="Who teaches the student: teacher, or the name of a step.")
    peers: tuple[dict[str, Any], ...] = Field(
        (),
        description="Students that learn at the same time, as peer.1, peer.2, ...: what differs from the student; "
        "family teacher: the teacher's own kind, from its start.",
    )
    ships: Literal["student", "best"] = Field(
        "student", description="best: of student and peers alike, the best on validation."
    )
    export: Export = Field(Export(), description="Gates of the artefact.")
    evaluation: Evaluation = Field(Evaluation(), description="What is measured.")

    @model_validator(mode="after")
    def _shares_leave_rows(self) -> Recipe:
        if self.data.validation_share + self.data.test_share >= 0.9:
            raise ValueError("data.validation_share + data.test_share must stay below 0.9")
        return self

    @model_validator(mode="after")
    def _label_is_a_column_of_its_own(self) -> Recipe:
        for key in ("text", "image"):
            if getattr(self.data, key) == self.data.label:
                raise ValueError(
                    f'data.label and data.{key} name the same column, "{self.data.label}": what is to be learnt '
                    f"would be the answer; name them with --label and --{key}"
                )
        return self
