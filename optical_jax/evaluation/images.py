"""Image-text retrieval: multilingual captions and images, text-to-image and image-to-text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optical_jax.data.collections.captions import hashes, select_languages
from optical_jax.data.images.captions import Caption, ImageTextSet, NoImagesError, images_of
from optical_jax.data.images.sources import is_image_set, read_image_set
from optical_jax.errors import ConfigError
from optical_jax.evaluation.contamination import counts_of_training
from optical_jax.evaluation.gallery import gallery_queries, write_gallery
from optical_jax.evaluation.options import EvalCommand
from optical_jax.evaluation.retrieval import (
    Columns,
    Directions,
    Evaluation,
    Prepared,
    Queries,
    Reference,
    RetrievalTask,
    System,
    search_two_ways,
)
from optical_jax.files import own_system, trains_teacher
from optical_jax.plots.curves import draw_recalls
from optical_jax.retrieval.image_metrics import (
    IMAGE_METRICS,
    RECALLS,
    WAYS,
    mean_rank_variance,
    trained_on_sentences,
    two_way_metrics,
)
from optical_jax.retrieval.metrics import MetricValues
from optical_jax.runs.load import load
from optical_jax.runs.pair import TextAndImage, text_and_image_of_run, text_of_run, towers_of_model
from optical_jax.towers.images import image_tower_sha256

T2I, I2T = WAYS
SUMMARY = ("t2i R@1", "i2t R@1", "rSum")


@dataclass(frozen=True, eq=False)
class ImageTask(RetrievalTask):
    """Retrieval between the captions of some languages of a set and its images, in both directions."""

    images: ImageTextSet

    searched = "pictures"
    directions = WAYS
    metrics = IMAGE_METRICS
    compared = tested = RECALLS
    references = ("untrained", "teacher")
    """Described in docs/images.md."""
    columns = Columns(
        wide=72,
        count=("captions", "t2i queries"),
        shown=(*(f"{way} {recall}" for way in WAYS for recall in RECALLS), "rSum"),
        narrow=SUMMARY,
        averaged=SUMMARY,
        averaged_narrow=SUMMARY[-1:],
        own="rSum",
        reference="reference",
    )
    reference_notes = (
        "better, worse: languages in which {own}'s recalls are (t2i/i2t), p below 0.05",
        "p: paired t-test over images of R@1 + R@5 + R@10, corrected over all",
        "languages, ways and references by Holm",
    )
    comparison_notes = ("tests over images; several captions of one image are averaged",)
    search = staticmethod(search_two_ways)
    draw = staticmethod(draw_recalls)

    def means(self, found: Directions) -> MetricValues:
        return two_way_metrics(found[T2I].per_query, found[I2T].per_query)

    def own_mean(self, own: Directions, reference: Directions) -> float:
        return self.means(own)["rSum"]

    # What is evaluated.

    def of_run(self, command: EvalCommand, run: Path, step: int) -> Prepared:
        """The run's trained model, the untrained model, and the teacher on English captions."""
        cache_dir = command.cache_dir or None
        towers = text_and_image_of_run(run, step, command.pictures_by, cache_dir)
        if trains_teacher(run) and not command.pictures_by:
            before = text_and_image_of_run(run, "untrained", cache_dir=cache_dir)
        else:
            # The same image tower, which encodes once.
            before = towers._replace(text=text_of_run(run, "untrained", cache_dir))
        systems = {
            own_system(run): System(towers.text, towers.image, self.asked),
            "untrained": System(before.text, before.image, self.asked),
        }
        english = self.english()
        if english and not trains_teacher(run):
            systems["teacher"] = System(load(run, part="teacher", cache_dir=cache_dir), towers.image, english)
        origin = {"run": str(run), "checkpoint": step}
        return self.prepared(command, systems, towers, origin, run, command.pictures_by or str(run))

    def of_model(self, command: EvalCommand) -> Prepared:
        """A dual encoder, or a text model with the image tower of another dual encoder."""
        pooling: Any = "auto" if command.pooling == "default" else command.pooling
        towers = towers_of_model(command.model, command.pictures_by, pooling, command.cache_dir or None)
        systems = {"model": System(towers.text, towers.image, self.asked)}
        origin = {"model": command.model}
        return self.prepared(command, systems, towers, origin, None, command.pictures_by or command.model)

    def prepared(
        self,
        command: EvalCommand,
        systems: Mapping[str, System],
        towers: TextAndImage,
        origin: Mapping[str, Any],
        run: Path | None,
        images_by: str,
    ) -> Prepared:
        """`images_by` is the run, folder or hub name of the image tower."""
        texts = [
            text
            for asked in (self.asked, self.english())
            for queries in asked.values()
            for text in queries.items.values()
        ]
        by_tower = {"pictures_by": command.pictures_by, "image_tower": image_tower_sha256(towers.image)}
        trained_on = counts_of_training(
            run, images_by, images_of(self.images), texts, self.name, command.cache_dir or None
        )
        record = {"left_out": dict(self.images.left_out), **trained_on}
        return Prepared(self, scoring_of(command, towers), systems, {**origin, **by_tower}, record)

    def english(self) -> dict[str, Queries]:
        """Language -> English captions of the images that its captions describe; languages without any are left out."""
        english = self.images.captions.get("en", {})
        chosen: dict[str, Queries] = {}
        of_images: dict[frozenset[str], Queries] = {}
        for language, queries in self.asked.items():
            there = frozenset(image for wanted in queries.relevant.values() for image in wanted)
            if there not in of_images:
                of_images[there] = caption_queries({name: one for name, one in english.items() if one.picture in there})
            if of_images[there].items:
                chosen[language] = of_images[there]
        return chosen

    def folder_suffix(self, command: EvalCommand, run: Path) -> str:
        return "" if command.scoring == "auto" else f"-{command.scoring}"

    def is_current(self, command: EvalCommand, run: Path, step: int, saved: Mapping[str, Any]) -> bool:
        towers = text_and_image_of_run(run, step, command.pictures_by, command.cache_dir or None)
        wanted = {
            "image_tower": image_tower_sha256(towers.image),
            "scoring": scoring_of(command, towers),
            "inputs": self.inputs,
        }
        return all(saved.get(name) == value for name, value in wanted.items())

    # What is reported.

    def across_languages(self, evaluation: Evaluation) -> dict[str, Any]:
        return {
            "rank_variance": {name: rank_variance(evaluation, name) for name in evaluation.found if name != "teacher"}
        }

    def reference_json(self, reference: Reference) -> dict[str, Any]:
        names = {"direction": "way", "units": "pictures"}
        return {
            "system": reference.system,
            "languages": reference.languages,
            "means": reference.means,
            "own_rsum": reference.own,
            "tests": [{names.get(key, key): value for key, value in asdict(test).items()} for test in reference.tests],
        }

    def notes(self, evaluation: Evaluation) -> Iterator[str]:
        if self.images.left_out:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in self.images.left_out.items())
            yield f"left out in all languages of the set: {counts}"
        yield from trained_on_sentences({"pictures": len(self.documents), **evaluation.record})
        yield "t2i: captions are queries, images are ranked; i2t: images are queries"
        yield "R@k: a relevant one is among the first k; rSum: their sum in per cent"
        for system in (evaluation.system, "untrained"):
            by_way = rank_variance(evaluation, system)
            shown = [f"{way} {one['MRV']:.2f} ({one['pictures']:.0f} images)" for way, one in by_way.items() if one]
            if shown:
                languages = next(int(one["languages"]) for one in by_way.values() if one)
                yield f"MRV over {languages} languages, {system}: {', '.join(shown)}"

    def write_pages(self, folder: Path, evaluation: Evaluation) -> list[str]:
        """Write gallery.html: the best and the worst captions of every language."""
        ids = list(self.documents)
        place = {name: n for n, name in enumerate(ids)}
        languages = {
            language: gallery_queries(
                list(self.asked[language].items.values()),
                [[place[image] for image in wanted] for wanted in self.asked[language].relevant.values()],
                found[T2I].ranking,
                [int(metrics["rank"]) for metrics in found[T2I].per_query.values()],
                ids,
            )
            for language, found in evaluation.found[evaluation.system].items()
        }
        run, step = Path(evaluation.origin["run"]), evaluation.origin["checkpoint"]
        title = f"{self.name}, {self.split}: {evaluation.system} of {run.resolve().name}, checkpoint {step}"
        write_gallery(folder / "gallery.html", title, languages, images_of(self.images))
        return ["gallery.html"]


def read_task(command: EvalCommand) -> ImageTask | None:
    """Read an image-caption set; None for what is ranked as texts: a text collection, or captions without images.

    Raises:
      ConfigError: images are required but the set has none, or a flag applies to texts only.
      DataError: a file of the set is malformed; the message says where.
    """
    if not is_image_set(command.collection):
        if command.against != "auto":
            raise ConfigError(f"against={command.against}: {command.collection} is not a set of images; leave it out")
        return None
    if command.max_bad_lines:
        raise ConfigError(
            f"max_bad_lines={command.max_bad_lines} applies to text collections only, and {command.collection} has "
            "captions of images; leave it out"
        )
    if command.against == "captions":
        return None
    try:
        # All languages: the teacher's queries are English, and the ranked images must not depend on the query language.
        found = read_image_set(command.collection, command.split)
    except NoImagesError as error:
        if command.against == "pictures" or command.pictures_by:
            raise
        print(f"{error}: captions are ranked against the English captions instead (text only)")
        return None
    for name, value in (("translations", " ".join(command.translations)), ("documents", command.documents)):
        if value not in ("", "auto"):
            raise ConfigError(
                f"{name}={value} applies to text collections only, and {command.collection} has images; leave it out"
            )
    return image_task(found, command.lang)


def image_task(found: ImageTextSet, languages: Sequence[str] = ()) -> ImageTask:
    """Retrieval task of an image-caption set, in some of its languages or in all.

    Raises:
      DataError: it has no captions in a language.
    """
    asked = {language: caption_queries(some) for language, some in select_languages(found, languages).items()}
    images = images_of(found)
    # One digest of all images, which may be one file each.
    inputs = hashes(found.files) | {"pictures": images.sha256}
    return ImageTask(found.name, found.split, images, asked, inputs, found)


def caption_queries(captions: Mapping[str, Caption]) -> Queries:
    texts = {name: caption.text for name, caption in captions.items()}
    return Queries(texts, {name: {caption.picture: 1} for name, caption in captions.items()})


def scoring_of(command: EvalCommand, towers: TextAndImage) -> str:
    """Resolve `--scoring auto` to "pooled" or "maxsim"."""
    return ("pooled" if towers.by_means else "maxsim") if command.scoring == "auto" else command.scoring


def rank_variance(evaluation: Evaluation, system: str) -> dict[str, dict[str, float] | None]:
    """Mean rank variance over languages (MRV), by direction; None where it is undefined."""
    ranks: dict[str, dict[str, dict[str, float]]] = {way: {} for way in WAYS}
    for language, found in evaluation.found.get(system, {}).items():
        for way, one in found.items():
            ranks[way][language] = {image: metrics["rank"] for image, metrics in one.per_unit.items()}
    return {way: mean_rank_variance(by_language) for way, by_language in ranks.items()}
