"""Work and measurements in round numbers."""

from luthier.advise.estimate.measured import Export, Measured, Sample, Steps, Task
from luthier.advise.estimate.whole import Machine
from luthier.advise.estimate.work import Shape, Size, Work

SIZE = Size(
    layers=30,
    hidden=576,
    layer_parameters=106_000_000,
    head_parameters=28_000_000,
    parameters=135_000_000,
    trainable=5_000_000,
)
MACHINE = Machine("a machine", 2, 8_000_000_000, 50_000_000_000)


def shape(tokens: int) -> Shape:
    return Shape(tokens=tokens, targets=0, pairs=0)


TIMED = tuple(map(shape, (400, 100, 200, 300)))
WORK = Work(
    method="sft",
    full=False,
    recomputes=False,
    precision="fp32",
    micro_batch_tokens=1536,
    longest_tokens=300,
    steps=100,
    sampled_steps=50,
    sampled_rows=400,
    micro_batches=TIMED * 25,
    referenced_rows=0,
    validations=11,
    watched=(shape(400), shape(100)),
    checkpoints=10,
    kept_checkpoints=2,
    snapshots=0,
    kept_snapshots=0,
    test_rows=100,
    systems=3,
    rows_per_batch=64,
    prompt_tokens=50,
    answer_tokens=3,
    most_new_tokens=15,
    exports=("merged",),
    data_bytes=1_000_000,
)
STEPS = Steps(
    **SIZE.model_dump(),
    fast=True,
    shares=True,
    start_seconds=5.0,
    backward_seconds=(0.3, 0.5, 0.7),
    memory_bytes=(1_000_000_000,) * 4,
    forward_seconds=(0.4, 0.1, 0.2),
    update_seconds=0.01,
    checkpoint_seconds=0.5,
    checkpoint_bytes=60_000_000,
    weights_seconds=0.1,
    weights_bytes=20_000_000,
    activation_bytes_per_token=440_000.0,
)
PRICED = Task(system="zero-shot", name="likelihoods", seconds=2.0)
MEASURED = Measured(
    import_seconds=4.0,
    start_bytes=500_000_000,
    train_bytes=1_800_000_000,
    evaluate_bytes=1_500_000_000,
    export_bytes=1_900_000_000,
    steps=STEPS,
    samples=(
        Sample(rows=4, seconds=7.0, tasks=(Task(system="zero-shot", name="likelihoods", seconds=2.0),), runs_on=False),
        Sample(
            rows=16, seconds=10.0, tasks=(Task(system="zero-shot", name="likelihoods", seconds=5.0),), runs_on=False
        ),
    ),
    export=Export(seconds=6.0, bytes=540_000_000),
)
