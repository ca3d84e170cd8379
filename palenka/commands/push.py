"""Send a finished run to the Hugging Face Hub: its model and card, and its milestones as branches."""

import argparse

from palenka.publish.push import push


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a finished run's name or folder")
    parser.add_argument("--to", required=True, metavar="OWNER/NAME", help="the repository; made if it is not there")
    parser.add_argument(
        "--licence", required=True, metavar="ID",
        help="of the weights, as the hub abbreviates it: mit, cc-by-nc-sa-4.0, other, …; it depends on the text",
    )  # fmt: skip
    parser.add_argument("--revisions", action="store_true", help="its milestones, too: a branch each")
    parser.add_argument("--with-code", action="store_true", help="the code of an architecture of our own, too")
    parser.add_argument("--yes", action="store_true", help="send; without it, what would be sent is shown")


def run(arguments: argparse.Namespace) -> None:
    push(
        arguments.run, arguments.to, arguments.licence, arguments.revisions, arguments.with_code, sends=arguments.yes
    )
