"""Reading corpora: every known format becomes a store, and every store a `Corpus`."""

from pathlib import Path

from mmer_core.corpus import Corpus, open_store
from mmer_core.errors import CorpusError
from mmer_core.formats.amh import Tree
from mmer_core.paths import root
from mmer_core.store import write_store


def open_corpus(path: str | Path, store: str | Path | None = None) -> Corpus:
    """Open a corpus, whatever it is: a store in place, an AMH fold tree by way of a store.

    Args:
        path: a store, or a folder with fold01, fold02, .. in the AMH layout, of any sizes.
        store: where the store of a fold tree is, or is to be, made; data/<name of the folder> by default, with ".store"
            behind if the tree is there itself. One made from this tree before is opened; delete it to import again.

    CorpusError names the file, what was expected and what was found. No half-written store is left.
    """
    try:
        path = Path(path).expanduser().resolve()
    except (RuntimeError, ValueError) as error:  # a home of nobody, a zero byte
        raise CorpusError(path, "a path", str(error)) from None
    if (path / "corpus.json").is_file():
        return open_store(path)
    if not path.is_dir():
        raise CorpusError(path, "a folder with a corpus", "a file" if path.exists() else "nothing")
    store = Path(store).expanduser().resolve() if store else root() / "data" / path.name
    if store == path:  # the tree itself lies in data/
        store = path.with_name(f"{path.name}.store")
    corpus = open_store(store) if (store / "corpus.json").is_file() else write_store(Tree(path), store)
    if corpus.source != str(path):
        raise CorpusError(store, f"the store of {path}", f"one made from {corpus.source}; name another store")
    return corpus
