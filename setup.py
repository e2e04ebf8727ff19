"""Packaging of rloss_caffe. The core needs no Caffe; the extras add what the layers, tools and tests use."""

import os
import re
import runpy

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = runpy.run_path(os.path.join(HERE, "rloss_caffe", "version.py"))["__version__"]

# The one Caffe on PyPI: CPU wheels for Linux on x86-64, Python 3.6 to 3.9. It predates numpy 2 and protobuf 4,
# so those bounds apply exactly where the wheel does; a Caffe of the user's own brings its own needs.
CAFFE_WHEEL = "python_version < '3.10' and sys_platform == 'linux' and platform_machine == 'x86_64'"

IMAGES = ["opencv-python-headless", "pillow"]
DRAW = ["bottle>=0.13", "waitress>=2.1"] + IMAGES
PICTURES = ["matplotlib>=3.7", "scikit-image", "tqdm"] + IMAGES

# Where a release is published: its page's address, as https://HOST/OWNER/NAME. Links and pictures of the README then
# lead there from wherever it is shown; without it they become plain text rather than broken links.
PROJECT_URL = os.environ.get("RLOSS_PROJECT_URL", "").rstrip("/")


def long_description():
    with open(os.path.join(HERE, "README.md"), encoding="utf-8") as readme:
        text = readme.read()
    return re.sub(r"(!?)\[([^]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)", _link, text)


def _link(match):
    mark, words, path = match.groups()
    if not PROJECT_URL:
        return f"*({words})*" if mark else words
    return f"{mark}[{words}]({PROJECT_URL}/{'raw' if mark else 'blob'}/HEAD/{path})"


setup(
    name="rloss_caffe",
    version=VERSION,
    description="Regularised losses of weakly-supervised segmentation, for Caffe, PyTorch and Keras, on a fast lattice",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    project_urls={
        "The original, a fork of Caffe": "https://github.com/meng-tang/rloss",
        **({"Source": PROJECT_URL} if PROJECT_URL else {}),
    },
    keywords="segmentation weak-supervision scribbles densecrf permutohedral-lattice bilateral-filter caffe pytorch",
    packages=find_packages(include=["rloss_caffe", "rloss_caffe.*"]),
    package_data={
        "rloss_caffe": ["py.typed"],
        "rloss_caffe.datasets": ["example_labels/*/*.png"],
        "rloss_caffe.drawing": ["page/*"],
    },
    python_requires=">=3.8",
    install_requires=["numpy>=1.19", "numba>=0.56", "protobuf>=3.12", "pyyaml>=5.1"],
    extras_require={
        "caffe": [
            "kendryte-caffe==1.0.0.20210829; " + CAFFE_WHEEL,
            "numpy<2; " + CAFFE_WHEEL,
            "protobuf<3.21; " + CAFFE_WHEEL,
        ]
        + IMAGES,
        "images": IMAGES,
        "pictures": PICTURES,
        "draw": DRAW,
        "torch": ["torch>=2.4"],  # the first with torch.library.custom_op
        "tensorflow": ["tensorflow>=2.16", "keras>=3.6"],  # the first TensorFlow whose Keras is Keras 3
        "dev": ["pytest>=7", "pytest-xdist>=3.2", "hypothesis>=6", "scipy", "ruff==0.12.5", "mypy>=1.11", "build"]
        + ["selenium>=4.10"]  # drives the browser in tests/drawing
        + DRAW
        + PICTURES,
    },
    entry_points={"console_scripts": ["rloss-caffe = rloss_caffe.commands:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(8, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
