"""MNIST and Fashion-MNIST: IDX files whose content is pinned, and which can be downloaded.

The content's checksums are what counts: they hold for a copy that somebody packed anew. Those of the published .gz
files let a broken download be told before it gets into the cache.
"""

from psopt.data.idx import find_pair, read_pair
from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.records import record

DESCRIPTIONS = {
    "mnist": "handwritten digits, 60000 x 784 from 0 to 255, labels 0..9; downloaded, or set `path` to its folder",
    "fashion-mnist": "clothes, 60000 x 784 from 0 to 255, labels 0..9; downloaded, or set `path` to its folder",
}


@record
class Published:
    """One published file.

    Attributes
    ----------
    name : str
        Without .gz.
    content : str
        sha256 of what is in it, in hex.
    packed : str
        sha256 of the .gz file that is downloaded, in hex.
    """

    name: str
    content: str
    packed: str


@record
class Home:
    """Where a set is published: ``address`` and a file's name with .gz make the address of that file.

    ``parts`` has the images and the labels of ``train`` and of ``t10k``.
    """

    address: str
    parts: dict[str, tuple[Published, Published]]


HOMES = {
    "mnist": Home(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        {
            "train": (
                Published(
                    "train-images-idx3-ubyte",
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                ),
                Published(
                    "train-labels-idx1-ubyte",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                ),
            ),
            "t10k": (
                Published(
                    "t10k-images-idx3-ubyte",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                ),
                Published(
                    "t10k-labels-idx1-ubyte",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
            ),
        },
    ),
    "fashion-mnist": Home(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        {
            "train": (
                Published(
                    "train-images-idx3-ubyte",
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                ),
                Published(
                    "train-labels-idx1-ubyte",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                ),
            ),
            "t10k": (
                Published(
                    "t10k-images-idx3-ubyte",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                ),
                Published(
                    "t10k-labels-idx1-ubyte",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                ),
            ),
        },
    ),
}


def read_published(name: str, folder: str | None, part: str) -> Table:
    """One part, ``train`` or ``t10k``, from ``folder``, or from the user's cache, into which it is downloaded once."""
    images, labels = HOMES[name].parts[part]
    paths = find_pair(folder, part) if folder else (download(name, images), download(name, labels))
    return read_pair(*paths, (images.content, labels.content))


def download(name: str, file: Published) -> str:
    """Path of a published .gz file in the user's cache folder; several ranks may ask at once, each then downloads."""
    instead = "set `path` to a folder that holds the four files"
    try:
        import pooch
    except ImportError:
        raise ConfigError(f"downloading {name} needs pooch: pip install psopt[download], or {instead}") from None
    packed = f"{file.name}.gz"
    try:
        # Written under another name and moved there when it is whole, so that no rank reads half a file.
        return pooch.retrieve(
            HOMES[name].address + packed, f"sha256:{file.packed}", fname=packed, path=pooch.os_cache("psopt") / name
        )
    except ValueError as error:
        raise ConfigError(f"{packed} of {name} came with another sha256 than the published one: {instead}") from error
    except OSError as error:  # no network, or no room in the cache
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot download {packed} of {name}: without a network {instead} ({reason})") from error
