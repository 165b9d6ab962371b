"""The recipe's ``teacher``: a model and how it is trained, an endpoint and its limits, or several that teach as one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from understudy.pipeline.ranges import Count, Dropout, Name, Positive, Section, Seed

MemberName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w-]*$")]


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
