"""Draw scribbles on photographs of your own in a browser, and see at once what each loss makes of them.

Prints an address to open in a browser. It has a random token in it: whoever knows it may draw. The page asks for
nothing from elsewhere and works offline. Strokes save themselves, as label maps that training takes as they are.

With --net and --weights a preview can start from the scores of a net, which needs Caffe.
"""

import sys

from rloss_caffe.commands._net_scores import add_net, check_net, scores_of
from rloss_caffe.commands._words import word_list
from rloss_caffe.data.files import printable

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe draw mine --classes background,cat,dog"


def add_arguments(parser):
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="photographs, or a folder JPEGImages with them")
    add("--classes", type=word_list, metavar="A,B", help="names of all classes, from 0; default: those of "
        "FOLDER/classes.txt, where they are kept")  # fmt: skip
    add("--host", default="127.0.0.1", help="an address of this machine that others reach, for drawing on a tablet, "
        "say; what is sent is not encrypted. Default: 127.0.0.1, for this machine alone")  # fmt: skip
    add("--port", type=int, default=0, help="default: one that is free")
    add_net(parser, "a preview can start from its scores of these classes")


def run(arguments):
    """Serve until Ctrl-C or SIGTERM."""
    from rloss_caffe.drawing.folder import Folder
    from rloss_caffe.drawing.server import DrawServer

    check_net(arguments)
    if not 0 <= arguments.port <= 65535:
        raise ValueError(f"--port must be from 0 to 65535, found {arguments.port}")
    folder = Folder(arguments.folder, arguments.classes)
    net = scores_of(arguments.net, arguments.weights, len(folder.classes)) if arguments.net else None
    server = DrawServer(folder, arguments.host, arguments.port, net)
    for problem in folder.problems:
        print(f"rloss-caffe draw: {problem}", file=sys.stderr)
    if not server.is_private:
        print("rloss-caffe draw: what is sent is not encrypted; whoever reads it may draw", file=sys.stderr)
    print(f"{len(folder.names)} photographs in {printable(folder.path)}; open this in a browser, and end with Ctrl-C:")
    print(server.address, flush=True)
    server.run()
    print("ended; what was drawn is saved")
    return 0
