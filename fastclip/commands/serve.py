"""`fastclip serve`: a page to search embeddings with, and endpoints for programs."""

import argparse
import sys

from fastclip.commands.model_arguments import refusing
from fastclip.commands.searched import add_searched_arguments, model_of_embeddings, opened
from fastclip.installation import install_command
from fastclip.printable import printable

DESCRIPTION = """\
Serves embeddings: a page in which people search by words, by images and by what they found, and
endpoints for programs. It says of every search whether anything stands out from chance.
"""
EPILOG = """\
endpoints
    /                  the page; /?q=cat searches at once
    /search            parts with weights, as JSON: {"q": "cat - dog", "parts": [{"row": 7}]}
    /image/7           the image of the row with the id 7, small; ?size=large
    /knn-service, /metadata, /indices-list
                       as clip-retrieval has them, for its clients
    /v1/embeddings     vectors of texts, as OpenAI has them
    /health, /metrics  what is served; counts and times for Prometheus

for example
    fastclip embed logs/my-run photos embeddings
    fastclip index embeddings
    fastclip serve embeddings --port 8000

By default only this machine can reach the server, and only under its own names. There are no
passwords: let --host name another address only where all who reach it may see the images. Ctrl-C
ends the server when it has answered what was asked, with the exit status 0; a command that is
refused has 2.
"""
EVERYWHERE = (
    "warning: whoever reaches {host} may search these embeddings and see their images; there are "
    "no passwords"
)
NO_INDEX = "`fastclip index` makes searches quicker and compares them with other captions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_searched_arguments(parser)
    group = parser.add_argument_group("the server")
    group.add_argument("--host", metavar="ADDRESS", default="127.0.0.1",
        help="The address of this machine at which the server listens. The default is "
        "%(default)s, which only this machine reaches.")  # fmt: skip
    group.add_argument("--port", metavar="NUMBER", type=int, default=1234,
        help="The port at which the server listens; 0 is any that is free, and is printed. The "
        "default is %(default)s, as of clip-retrieval.")  # fmt: skip
    group.add_argument("--name", metavar="NAME",
        help="What clients call the index, and the model. The default is the name of the "
        "folder.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return refusing("serve", _serve, args)


def _serve(args: argparse.Namespace) -> int:
    try:
        import uvicorn  # noqa: F401

        from fastclip.serve.app import make_app
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise ModuleNotFoundError(
            f"The server needs Starlette and uvicorn: {install_command('serve')}"
        ) from error
    from fastclip.serve.guard import is_loopback, names_of
    from fastclip.serve.server import Server, address_of, open_socket
    from fastclip.serve.service import open_service

    if not 0 <= args.port < 2**16:
        raise ValueError(f"--port must be from 0 to 65535, got {args.port}")
    if args.name is not None and not args.name.strip():
        raise ValueError("--name must not be empty")
    embeddings = opened(args)
    with open_socket(args.host, args.port) as listening:  # before a model is read for a minute
        ready = model_of_embeddings(args, embeddings)
        service = open_service(embeddings, ready, name=args.name, over=args.over)
        if not is_loopback(args.host):
            print(EVERYWHERE.format(host=printable(args.host)), file=sys.stderr)
        if service.searchers[service.over].prepared is None:
            print(f"{service.over} have no index: {NO_INDEX}", file=sys.stderr)
        server = Server(make_app(service, names_of(args.host)), listening, service.limits)
        sides = " and ".join(
            f"{len(searcher.side):,} {name}" for name, searcher in service.searchers.items()
        )
        address = address_of(listening)
        try:
            server.run(
                lambda: print(printable(f"{service.name}: {sides} at {address}"), flush=True)
            )
        finally:
            service.close()
    print("stopped")
    return 0
