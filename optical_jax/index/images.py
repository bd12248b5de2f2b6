"""Text-to-image search in a folder of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.data.files.names import image_name, shown_name
from optical_jax.errors import ConfigError
from optical_jax.runs.pair import TextAndImage, text_and_image_of_run, towers_of_model

if TYPE_CHECKING:
    from optical_jax.data.images.files import Images
    from optical_jax.index.options import SearchCommand


@dataclass(frozen=True)
class ImageHit:
    query: str
    rank: int
    score: float
    picture: str
    """Image id."""
    file: str
    """Path of the image file, with the member inside an archive."""

    @property
    def name(self) -> str:
        """The image's name, for people."""
        return shown_name(image_name(self.picture))


def load_text_and_image(command: SearchCommand) -> TextAndImage:
    from optical_jax.runs.finding import OR_A_MODEL, check_run, is_run

    cache_dir = command.cache_dir or None
    if command.model:
        if is_run(Path(command.model)):
            raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
        return towers_of_model(command.model, command.pictures_by, cache_dir=cache_dir)
    check_run(command.run, OR_A_MODEL)
    return text_and_image_of_run(Path(command.run), command.checkpoint, command.pictures_by, cache_dir)


def find_images(command: SearchCommand, towers: TextAndImage, pictures: Images) -> list[list[ImageHit]]:
    """Rank images for every query, in the order of the queries. Images are streamed: vectors are not kept."""
    from optical_jax.index.texts import check_queries
    from optical_jax.partitioning import over_all_devices
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.search import rank
    from optical_jax.towers.images import encode_images
    from optical_jax.towers.texts import Counter, encode_texts, max_tokens, say

    check_queries(command, towers.text)
    cut = Counter()
    # Ties go by id, descending: reversed, the first name of two equal images ranks first.
    names = sorted(pictures, reverse=True)
    ids = [f"{n:0{len(str(len(names)))}}" for n in range(len(names))]
    with over_all_devices():
        options: dict[str, Any] = {"batch_size": command.batch_size, "look": cut}
        queries = list(encode_texts(towers.text, command.queries, pooled=towers.by_means, **options))
        for line in cut.counts.truncation("queries", max_tokens(towers.text)):
            say(line)
        with ProgressReport("encoding and ranking images", len(names), "images") as progress:
            blocks = encode_images(
                towers.image,
                pictures,
                names,
                pooled=towers.by_means,
                batch_size=command.batch_size,
                advance=progress.advance,
            )
            ranking = rank({"": queries}, ids, blocks, depth=command.top)[""]
    return [
        [
            ImageHit(query, place, score, names[n], pictures.where(names[n]))
            for place, (n, score) in enumerate(zip(documents, scores, strict=True), start=1)
            if n >= 0
        ]
        for query, documents, scores in zip(
            command.queries, ranking.documents.tolist(), ranking.scores.tolist(), strict=True
        )
    ]
