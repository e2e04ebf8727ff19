"""Fill an environment over a Caffe of the user's own, and replace nothing that this Caffe needs.

Usage: FOLDER/bin/python tools/own_caffe.py FOLDER       (environment.sh makes FOLDER and calls this)

`import caffe` must work in the environment. The distributions that it loads, and what they require, are written to
FOLDER/constraints.txt with their versions, and pip installs the package's requirements under these constraints. After
every step `import caffe` is tried again: a step that breaks it is undone. What cannot be had is left out and written
to FOLDER/left_out.txt, a line each; only the core is needed.
"""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What caffe's own modules load on demand, or a user's program beside it: it has to go on working, too.
FAMILY = [
    "numpy",
    "protobuf",
    "scikit-image",
    "matplotlib",
    "scipy",
    "h5py",
    "pandas",
    "networkx",
    "pillow",
    "imageio",
    "pywavelets",
    "tifffile",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "leveldb",
    "lmdb",
    "pydot",
]

# extra of setup.py: what is missing without it; the first, without a name, is what the layers need
GROUPS = {
    "": "the layers",
    "images": "ImageSegData and the data commands",
    "pictures": "the pictures and the quickstart's photographs",
    "draw": "the page for drawing",
    "dev": "the tests",
}

LOADED = """
import sys, caffe
for name in ("io", "draw", "classifier", "detector", "net_spec", "coord_map"):
    try:
        __import__("caffe." + name)
    except Exception:
        pass  # draw needs pydot, say; what is missing needs no protection
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def main(folder):
    modules = loaded_modules()
    if modules is None:
        sys.exit(f"'import caffe' does not work in {folder}; its message is above")
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in needed(modules)))
    # Not in an environment of its own for the build: one over an environment would see an old setuptools first.
    pip("install", "setuptools>=64", "wheel")
    pip("install", "--no-build-isolation", "--no-deps", "-e", ROOT)
    left_out = {}
    for extra, purpose in GROUPS.items():
        say(f"installing what {purpose} need")
        for requirement, why in install(extra, constraints, left_out):
            left_out[requirement] = f"{requirement}, for {purpose}, is left out: {why}"
        if left_out and not extra:
            sys.exit(f"rloss_caffe: beside this Caffe the layers cannot be had: {'; '.join(left_out.values())}")
    (folder / "left_out.txt").write_text("".join(f"{line}\n" for line in left_out.values()))


def say(text):
    print(f"rloss_caffe: {text}", file=sys.stderr, flush=True)


def loaded_modules():
    """The top-level modules that `import caffe` loads, or None where it fails."""
    done = subprocess.run([sys.executable, "-c", LOADED], stdout=subprocess.PIPE, text=True)
    return None if done.returncode else set(done.stdout.split())


def needed(modules):
    """NAME==VERSION of the distributions that have these modules, of the family, and of all that these require."""
    installed = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            installed.setdefault(normalised(name), distribution)  # the first on the path counts, as for import
    found, todo = set(), [normalised(name) for name in FAMILY]
    todo += [name for name, distribution in installed.items() if modules & top_level(distribution)]
    while todo:
        name = todo.pop()
        if name in found or name not in installed or name in ("pip", "setuptools", "wheel", "pkg-resources"):
            continue
        found.add(name)
        todo += [normalised(re.match(r"[\w.-]+", line).group()) for line in installed[name].requires or []]
    versions = {name: installed[name].version for name in found}
    return [f"{name}=={version}" for name, version in sorted(versions.items()) if re.match(r"\d[\w.+!]*$", version)]


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def top_level(distribution):
    """The names that a distribution can be imported by."""
    text = distribution.read_text("top_level.txt")
    if text is not None:
        return set(text.split())
    return {path.parts[0].partition(".")[0] for path in distribution.files or [] if path.suffix in (".py", ".so")}


def install(extra, constraints, left_out):
    """Install an extra's requirements but those already left out; yields each that is left out now, with the reason."""
    wanted = [line for line in requirements(extra) if line not in left_out and not there_without_metadata(line)]
    before = local_distributions()
    error = pip_install(wanted, constraints)
    if error and not extra:
        yield ", ".join(wanted), error
        return
    if error:  # one by one: as much as can be had
        for line in wanted:
            error = pip_install([line], constraints)
            if error:
                yield line, error
    if loaded_modules() is None:
        added = sorted(local_distributions() - before)
        pip("uninstall", "--yes", *added)
        yield ", ".join(wanted), f"with {', '.join(added)} 'import caffe' fails as above"


def requirements(extra):
    """The requirement lines of an extra in the package's metadata, "" for those without one."""
    from pip._vendor.packaging.requirements import Requirement

    lines = [Requirement(line) for line in importlib.metadata.requires("rloss_caffe") or []]
    plain = [line for line in lines if not line.marker or line.marker.evaluate({"extra": ""})]
    chosen = [line for line in lines if line not in plain and line.marker.evaluate({"extra": extra})]
    return [f"{line.name}{line.specifier}" for line in (chosen if extra else plain)]


def there_without_metadata(requirement):
    """Whether OpenCV is there by another name: distributions of Linux say nothing of it to pip."""
    if not requirement.startswith("opencv-python"):
        return False
    return subprocess.run([sys.executable, "-c", "import cv2"], capture_output=True).returncode == 0


def local_distributions():
    done = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--local", "--format=freeze"], stdout=subprocess.PIPE, text=True
    )
    return {line.partition("==")[0] for line in done.stdout.split()}


def pip_install(lines, constraints):
    """None, or pip's reason."""
    if not lines:
        return None
    done = pip("install", "-c", constraints, *lines, check=False)
    if not done.returncode:
        return None
    kept = re.search(r"The user requested \(constraint\) (\S+)", done.stdout)
    if kept:
        return f"it does not go with {kept.group(1)}, which this Caffe needs"
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    return " ".join((errors or [f"ERROR: pip ended with status {done.returncode}"])[0].split())


def pip(command, *arguments, check=True):
    words = [sys.executable, "-m", "pip", command, "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"{done.stderr}\nrloss_caffe: pip {command} failed; its message is above")
    return done


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
