"""The recipe as records: every dial of a run, its range, its default and what it is for.

``None`` means "decided by the pipeline from the data, the teacher or the family, and written down in the run's
``recipe.yaml``". Descriptions become the JSON schema and the generated docs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from understudy.pipeline.ranges import Auto, Count, Dropout, Name, Positive, Section, Seed, Share
from understudy.pipeline.teacher_section import Teacher

View = Literal["drop_words", "swap_words", "replace_words", "masked_words", "shift", "rotate", "crop", "flip", "mixup"]


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
    lora: Count | None = Field(
        None,
        description="causal-lm: rank of the adapters (LoRA, by peft) that alone learn; they are merged into the "
        "weights that are saved; unset: all weights learn.",
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
