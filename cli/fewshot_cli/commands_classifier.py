"""`fewshot adapt` and what is done with the classifier that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fewshot_cli.group import app
from fewshot_cli.options import INIT_HELP, Base, Init, Json, Labels, Seed, Trainable, Vendor


@app.command()
def adapt(
    support: Annotated[
        Path,
        typer.Option(
            help="Folder or zip with a folder of pictures for each class, or a CSV of path and label; for an "
            "initialization for numbers, such as sine, a CSV of x and y."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write the classifier to; with --engine onnx an ONNX file.")],
    init: Annotated[
        str,
        typer.Option(
            help=f"{INIT_HELP} auto: those bundled for any number of classes. With --engine onnx a learner file."
        ),
    ] = "auto",
    backbone: Annotated[
        str | None,
        typer.Option(
            help="In place of --init: timm:NAME or timm:user/repo, a model of the timm library with its weights from "
            "the Hub; needs fewshot-sdk[timm].",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Literal["auto", "prototypes", "probe", "reptile"] | None,
        typer.Option(
            help="auto compares the others by cross-validation and takes the surest within one standard error "
            "of the best. Default: auto; with --steps reptile.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="Gradient steps of reptile. Default: the initialization's.", show_default=False),
    ] = None,
    trainable: Trainable = None,
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
    """Adapt an initialization to a few pictures of your own, or to a few points."""
    if backbone is not None and (init != "auto" or not backbone.startswith("timm:")):
        raise typer.BadParameter("--backbone takes timm:NAME, and the place of --init")
    if engine == "onnx":
        from fewshot_cli import learner

        others = (reject_rate, extend, delta, backbone, trainable)
        if method not in (None, "reptile") or any(word is not None for word in others) or label_from != "folder":
            raise typer.BadParameter("--engine onnx takes Reptile's steps on class folders, and no other options")
        learner.adapt(support, output, init, steps, seed, json)
        return
    from fewshot_cli import adapting

    if steps is not None and method in ("prototypes", "probe"):
        raise typer.BadParameter(f"--steps are Reptile's; --method {method} takes none")
    if extend and (method or trainable or steps is not None or reject_rate is not None or seed):
        raise typer.BadParameter(
            "--extend takes method, steps, what they move, reject rate and seed from the classifier; leave them out"
        )
    job = adapting.AdaptJob(
        support=support,
        output=output,
        init=backbone or init,
        method=method,
        steps=steps,
        trainable=trainable,
        reject_rate=reject_rate,
        extend=extend,
        label_from=label_from,
        keep_pictures=keep_pictures,
        seed=seed,
        delta=delta,
    )
    adapting.adapt(job, json)


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
    """Export what was adapted to one ONNX file. Exit code 3, and no file, if it disagrees with PyTorch."""
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
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures to classify; for a model of numbers, numbers (after -- if one is negative) or CSVs of them.",
            metavar="IMAGE...",
        ),
    ],
    base: Base = None,
    json: Json = False,
) -> None:
    """Say what is in pictures, or what follows from numbers. An .onnx file needs no PyTorch."""
    from fewshot_cli import adapting

    adapting.predict(model, images, base, json)


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
