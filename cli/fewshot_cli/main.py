"""The `fewshot` command: parses, calls the library's public names, prints what comes back."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

import fewshot_sdk
from fewshot_cli.output import emit, say
from fewshot_sdk.algorithms import Algorithm
from fewshot_sdk.errors import ParityError

# Workers on a machine without name resolution would each print a warning; read when torch is loaded.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

DEBUG = "--debug"
OPTIONAL = ("torch", "safetensors", "onnx")  # what `predict` on an ONNX file does without
EXTRAS = {"starlette": "serve", "uvicorn": "serve", "prometheus_client": "serve"}


class Group(TyperGroup):
    """Turns known failures into one line and an exit code; `--debug` anywhere shows the traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Runs the command. Exit codes: 0 done, 1 a known failure, 2 wrong usage, 3 no parity, 130 Ctrl-C."""
        words = list(sys.argv[1:] if args is None else args)
        debug = DEBUG in words
        words = [word for word in words if word != DEBUG]
        try:
            return super().main(words, *rest, **settings)
        except fewshot_sdk.FewshotError as error:
            if debug:
                raise
            say(f"error: {error}")
            sys.exit(3 if isinstance(error, ParityError) else 1)
        except ModuleNotFoundError as error:
            if debug or error.name not in (*OPTIONAL, *EXTRAS):
                raise
            wanted = f"'fewshot-sdk[{EXTRAS[error.name]}]'" if error.name in EXTRAS else error.name
            say(f"error: this command needs {error.name}, which is not installed here; pip install {wanted}")
            sys.exit(1)
        except KeyboardInterrupt:
            say("interrupted")
            sys.exit(130)

    def invoke(self, ctx: Any) -> Any:
        """As its parent, but Ctrl-C leaves through `main`, not as click's exit code 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that share the tasks. Default: one per core, one alone if the job is short.",
        show_default=False,
    ),
]
EvaluationMode = Literal["transductive", "inductive", "frozen", "all"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Root = Annotated[
    Path | None,
    typer.Option(help="Folder of the data set's zips. Default: FEWSHOT_DATA, else a download.", show_default=False),
]
Labels = Annotated[
    Literal["folder", "name"],
    typer.Option(help="name: all pictures in one folder, named such as cat_001.jpg."),
]
INIT_HELP = "A bundled initialization's name, a folder, or user/repo[@revision] on the Hugging Face Hub."
Vendor = Annotated[
    Path | None,
    typer.Option(
        help="Folder dist of the npm package onnxruntime-web, to be copied beside the page, which then needs no "
        "other host. Default: the page fetches it from a public CDN and checks its hash.",
        show_default=False,
    ),
]
Init = Annotated[str, typer.Argument(help=INIT_HELP, metavar="INIT")]
Base = Annotated[
    str | None,
    typer.Option(help="The initialization that a delta is on. Default: the one it names.", show_default=False),
]
Seed = Annotated[int, typer.Option(min=0, help="What all random choices come from.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        emit(fewshot_sdk.__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of a failure.")] = False,
) -> None:
    """Few-shot adaptation: meta-train or take an initialization, adapt it to your images, export, predict."""


@app.command("meta-train")
def meta_train(
    preset: Annotated[str, typer.Option(help="omniglot, omniglot-5way, omniglot-20way, mini-imagenet-5way or glyphs.")],
    output: Annotated[Path, typer.Option(help="Folder to write the initialization to.")],
    root: Root = None,
    algorithm: Annotated[
        Algorithm | None,
        typer.Option(
            help="In place of the preset's, reptile. All but reptile and fomaml have SGD inside and Adam outside.",
            show_default=False,
        ),
    ] = None,
    tail_shots: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Pictures of each class kept for the last mini-batch of a task; 0: it draws like the others. "
            "Default: 0 for fomaml, half for maml and its kin.",
            show_default=False,
        ),
    ] = None,
    meta_steps: Annotated[
        int | None, typer.Option(min=1, help="Outer steps. Default: the preset's.", show_default=False)
    ] = None,
    seed: Seed = 0,
    workers: Workers = None,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Outer steps between two saves to OUTPUT.checkpoint.")
    ] = 200,
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Outer steps between two points of curve.png, each 200 tasks; 0: none. Default: a 20th of all.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from OUTPUT.checkpoint, bit for bit.")] = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto is a GPU if there is one, which needs no workers.")
    ] = "auto",
) -> None:
    """Meta-train an initialization, with Reptile unless told otherwise. Ctrl-C saves; --resume continues."""
    from fewshot_cli import training

    job = training.Job(
        preset=preset,
        output=output,
        root=root,
        algorithm=algorithm,
        tail_shots=tail_shots,
        meta_steps=meta_steps,
        seed=seed,
        checkpoint_every=checkpoint_every,
        evaluate_every=evaluate_every,
        resume=resume,
        device=device,
    )
    training.meta_train(job, workers)


@app.command()
def evaluate(
    init: Init,
    data: Annotated[
        str | None,
        typer.Option(help="omniglot, mini-imagenet or glyphs. Default: what it was trained on.", show_default=False),
    ] = None,
    part: Annotated[
        Literal["test", "val", "train"], typer.Option(help="Which classes of its split; only mini-imagenet has val.")
    ] = "test",
    root: Root = None,
    ways: Annotated[int, typer.Option(min=2, help="Classes in a task.")] = 5,
    shots: Annotated[int, typer.Option(min=1, help="Support images of each class.")] = 1,
    tasks: Annotated[int, typer.Option(min=1, help="How many tasks.")] = 1000,
    transductive: Annotated[
        bool | None,
        typer.Option(
            "--transductive/--inductive",
            help="Queries of a task together, or each alone with the support set (the default).",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        EvaluationMode | None,
        typer.Option(help="The same by name; frozen is what an exported file does.", show_default=False),
    ] = None,
    baseline: Annotated[
        Literal["prototypes", "random", "all"] | None,
        typer.Option(
            help="Measure, on the same tasks, what the initialization is worth: class means of its features without "
            "a gradient step, or the same steps from random weights.",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    workers: Workers = None,
    record: Annotated[bool, typer.Option(help="Add the result to the initialization's card.")] = False,
    json: Json = False,
) -> None:
    """Measure an initialization on tasks of classes it was not trained on."""
    from fewshot_cli import evaluation

    named: EvaluationMode | None = None
    if transductive is not None:
        named = "transductive" if transductive else "inductive"
    if named and mode and mode != named:
        raise typer.BadParameter(f"--{named} and --mode {mode} contradict each other")
    chosen: EvaluationMode = mode or named or "inductive"
    job = evaluation.Job(
        init=init,
        data=data,
        part=part,
        root=root,
        ways=ways,
        shots=shots,
        n_tasks=tasks,
        modes=("transductive", "inductive", "frozen") if chosen == "all" else (chosen,),
        seed=seed,
        baselines=("prototypes", "random") if baseline == "all" else (baseline,) if baseline else (),
    )
    evaluation.evaluate(job, workers, record=record, json=json)


@app.command()
def compare(
    inits: Annotated[list[str], typer.Argument(help=f"Two or more. {INIT_HELP}", metavar="INIT INIT...")],
    data: Annotated[
        str | None,
        typer.Option(help="omniglot, mini-imagenet or glyphs. Default: the first one's own.", show_default=False),
    ] = None,
    part: Annotated[
        Literal["test", "val", "train"], typer.Option(help="Which classes of its split; only mini-imagenet has val.")
    ] = "test",
    root: Root = None,
    ways: Annotated[int, typer.Option(min=2, help="Classes in a task.")] = 5,
    shots: Annotated[
        list[int] | None, typer.Option(min=1, help="Support images of each class; repeatable. Default: 1 and 5.")
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, help="How many tasks, the same for all.")] = 200,
    mode: Annotated[
        Literal["transductive", "inductive", "frozen"], typer.Option(help="As of `fewshot evaluate`.")
    ] = "inductive",
    seed: Seed = 0,
    plot: Annotated[
        Path | None,
        typer.Option(help="A .png or .svg to draw: accuracy against inner steps and shots.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Compare initializations on the same tasks: paired differences with 95 % intervals, wins and losses."""
    from fewshot_cli import comparison

    job = comparison.Job(
        inits=tuple(inits),
        data=data,
        part=part,
        root=root,
        ways=ways,
        shots=tuple(sorted(set(shots or (1, 5)))),
        n_tasks=tasks,
        mode=mode,
        seed=seed,
        plot=plot,
    )
    comparison.compare(job, json)


@app.command()
def reproduce(
    figure: Annotated[Literal["taylor", "sine"], typer.Argument(help="taylor or sine, of the Reptile paper.")],
    output: Annotated[Path, typer.Option(help="Folder to write data.json, the pictures and README.md to.")],
    scale: Annotated[
        Literal["small", "paper"],
        typer.Option(help="small: minutes; paper: the paper's outer steps. taylor has but one."),
    ] = "small",
    json: Json = False,
) -> None:
    """Repeat a figure of the Reptile paper over three seeds, and say whether its shape holds."""
    from fewshot_cli import reproduction

    reproduction.reproduce(figure, scale, output, json)


@app.command()
def adapt(
    support: Annotated[
        Path, typer.Option(help="Folder or zip with a folder of pictures for each class, or a CSV of path and label.")
    ],
    output: Annotated[Path, typer.Option(help="Folder to write the classifier to; with --engine onnx an ONNX file.")],
    init: Annotated[
        str, typer.Option(help=f"{INIT_HELP} auto tries all bundled ones that fit. With --engine onnx a learner file.")
    ] = "auto",
    method: Annotated[
        Literal["auto", "prototypes", "probe", "reptile"] | None,
        typer.Option(
            help="auto compares the others by cross-validation and takes the simplest within one standard error "
            "of the best. Default: auto; with --steps reptile.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="Gradient steps of reptile. Default: the initialization's.", show_default=False),
    ] = None,
    label_from: Labels = "folder",
    reject_rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="Share of known pictures that may be lost to `unknown`; 0 never says it. Default: 0.05.",
            show_default=False,
        ),
    ] = None,
    extend: Annotated[
        Path | None,
        typer.Option(help="A classifier's folder, to which --support adds classes or pictures.", show_default=False),
    ] = None,
    keep_pictures: Annotated[
        bool, typer.Option(help="Keep small copies of the pictures in OUTPUT, for exporting and extending it.")
    ] = True,
    delta: Annotated[
        Literal["float32", "float16", "int8"] | None,
        typer.Option(
            help="Keep the weights as their difference from the initialization: exact, in half or a quarter of the "
            "room. What loads it needs both.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        Literal["torch", "onnx"], typer.Option(help="onnx needs no PyTorch: see `fewshot export-learner`.")
    ] = "torch",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Adapt an initialization to a few pictures of your own."""
    if engine == "onnx":
        from fewshot_cli import learner

        if method not in (None, "reptile") or reject_rate is not None or extend or delta or label_from != "folder":
            raise typer.BadParameter("--engine onnx takes Reptile's steps on class folders, and no other options")
        learner.adapt(support, output, init, steps, seed, json)
        return
    from fewshot_cli import commands

    if extend and (method or steps is not None or reject_rate is not None or seed):
        raise typer.BadParameter(
            "--extend takes method, steps, reject rate and seed from the classifier; leave them out"
        )
    job = commands.AdaptJob(
        support=support,
        output=output,
        init=init,
        method=method,
        steps=steps,
        reject_rate=reject_rate,
        extend=extend,
        label_from=label_from,
        keep_pictures=keep_pictures,
        seed=seed,
        delta=delta,
    )
    commands.adapt(job, json)


@app.command()
def doctor(
    source: Annotated[Path, typer.Argument(help="What --support of `fewshot adapt` takes.", metavar="DIR")],
    query: Annotated[
        Path | None,
        typer.Option(help="Pictures set aside to judge by; none may be in DIR, too.", show_default=False),
    ] = None,
    label_from: Labels = "folder",
    json: Json = False,
) -> None:
    """Say what is wrong with a set of pictures, before adapting to it. Exit code 1 if it has errors."""
    from fewshot_cli import doctor

    if not doctor.doctor(source, query, label_from, json):
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Folder made by `fewshot adapt`.", metavar="MODEL")],
    output: Annotated[Path | None, typer.Option(help="The ONNX file to write.", show_default=False)] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="New folder for the file with a small predict.py and a web page.", show_default=False),
    ] = None,
    vendor: Vendor = None,
    opset: Annotated[int, typer.Option(min=18, max=23, help="Version of ONNX's operators.")] = 20,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="Bits of weights and arithmetic; int8 for speed and size.")
    ] = "fp32",
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave out the preprocessing: the input is the network's normalized floats.")
    ] = False,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="Share of support pictures that fp16 or int8 may newly get wrong.")
    ] = 0.01,
    base: Base = None,
    json: Json = False,
) -> None:
    """Export an adapted classifier to one ONNX file. Exit code 3, and no file, if it disagrees with PyTorch."""
    from fewshot_cli import exports

    if (output is None) == (bundle is None):
        raise typer.BadParameter("give --output FILE.onnx or --bundle DIR")
    if bundle and raw:
        raise typer.BadParameter("the page and predict.py of a --bundle hand pictures in; leave out --raw")
    if vendor and not bundle:
        raise typer.BadParameter("--vendor is for the page of a --bundle")
    files = exports.Files(model=model, base=base, output=output, bundle=bundle, vendor=vendor)
    exports.export(files, opset=opset, precision=precision, raw=raw, max_drop=max_drop, json=json)


@app.command("export-learner")
def export_learner(
    init: Init,
    output: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    json: Json = False,
) -> None:
    """Export an initialization to one ONNX file that adapts and classifies, checked against PyTorch."""
    from fewshot_cli import learner

    learner.export_learner(init, output, json)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file, or a folder made by `fewshot adapt`.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures to classify.", metavar="IMAGE...")],
    base: Base = None,
    json: Json = False,
) -> None:
    """Say what is in pictures. An .onnx file needs no PyTorch."""
    from fewshot_cli import commands

    commands.predict(model, images, base, json)


@app.command()
def serve(
    model: Annotated[Path, typer.Argument(help="File made by `fewshot export`.", metavar="MODEL.onnx")],
    host: Annotated[str, typer.Option(help="Address to listen on; any but the loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    token: Annotated[
        str, typer.Option(envvar="FEWSHOT_TOKEN", help="What requests must carry as a bearer token.")
    ] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A Host header that is answered; may be repeated.", show_default=False)
    ] = None,
    max_mib: Annotated[float, typer.Option(min=0.001, help="Largest body that is read.")] = 20,
) -> None:
    """Serve an exported classifier over HTTP: KServe V2 for programs, a page at / for people."""
    from fewshot_cli import server

    server.serve(model, host, port, token, allow_host or [], max_mib)


@app.command()
def demo(
    init: Annotated[str, typer.Option(help=f"{INIT_HELP} Or a file by `fewshot export-learner`.")] = "omniglot",
    output: Annotated[
        Path | None,
        typer.Option(help="New folder to write the site to, for any web host, instead of serving it here."),
    ] = None,
    vendor: Vendor = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in your browser.")] = False,
) -> None:
    """Draw characters in a web page that learns them as you draw; served on this machine, or written as a site."""
    from fewshot_cli import demo

    demo.demo(init, output, vendor, port, browser)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder of an initialization.", metavar="DIR")],
    name: Annotated[str, typer.Argument(help="The repository, user/repo; made if there is none.", metavar="REPO")],
    private: Annotated[bool, typer.Option("--private", help="Make it private, if it is made.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch to push to; made if there is none. Default: main.", show_default=False)
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    message: Annotated[str | None, typer.Option(help="What the commit says.", show_default=False)] = None,
    sign: Annotated[
        Path | None, typer.Option(help="Private key in PEM to sign with: adds model.sig.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Upload an initialization to the Hugging Face Hub."""
    from fewshot_cli import sharing

    sharing.push(
        folder, name, private=private, branch=revision, create_pr=create_pr, message=message, key=sign, json=json
    )


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="user/repo, or user/repo@REVISION: a branch, a tag or a full commit.")],
    output: Annotated[
        Path | None, typer.Option(help="New folder to put a copy in. Default: the cache alone.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Fetch an initialization from the Hugging Face Hub, every file checked; it then loads without a network."""
    from fewshot_cli import sharing

    sharing.pull(name, output, json)


@app.command()
def models(json: Json = False) -> None:
    """List the initializations: bundled, pulled, and those the Hub tags fewshot-sdk."""
    from fewshot_cli import sharing

    sharing.models(json)


@app.command()
def info(
    name: Annotated[
        str, typer.Argument(help="An initialization, a classifier's folder or an .onnx file.", metavar="INIT_OR_MODEL")
    ],
    json: Json = False,
) -> None:
    """Tell where something comes from: initialization, commit, data, command."""
    from fewshot_cli import sharing

    sharing.info(name, json)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of an initialization or a classifier.", metavar="DIR")],
    key: Annotated[
        Path | None, typer.Option(help="Public key in PEM, by which it must be signed.", show_default=False)
    ] = None,
    base: Base = None,
) -> None:
    """Check every file of a folder against its manifest, every tensor against its settings, and the signature."""
    from fewshot_cli import sharing

    sharing.verify(folder, key, base)


if __name__ == "__main__":
    app()
