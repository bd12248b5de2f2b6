"""`eval.py` on pictures with captions in many languages, which look for each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.config import LOW_RESOURCE
from optical_jax.errors import ConfigError
from optical_jax.evaluation.contamination import counts_of_training
from optical_jax.evaluation.options import EvalCommand
from optical_jax.evaluation.texts import make_encode, write_out
from optical_jax.files import own_system, trains_teacher, write_json
from optical_jax.plots.curves import draw_recalls, try_to_draw
from optical_jax.runs.folder import read_run_config
from optical_jax.runs.load import checkpoint_step
from optical_jax.runs.pair import TextAndImage, text_and_image_of_run, text_of_run, towers_of_model

if TYPE_CHECKING:
    from optical_jax.data.images.captions import Caption, ImageTextSet
    from optical_jax.data.images.files import Pictures
    from optical_jax.evaluation.gallery import GalleryQuery
    from optical_jax.evaluation.image_report import PictureEvaluation
    from optical_jax.retrieval.image_search import Vectors
    from optical_jax.retrieval.metrics import PerQuery
    from optical_jax.towers.tower import Tower

Captions = dict[str, dict[str, "Caption"]]
"""Language -> caption id -> the picture's id, and the text."""
Asked = tuple[TextAndImage, Captions]
"""A system: its towers, and the captions that it reads in place of each language's."""


def find_pictures(command: EvalCommand) -> ImageTextSet | None:
    """The set with its pictures; None for what is ranked as texts: a collection of them, or captions without pictures.

    Raises:
      ConfigError: pictures are asked for where there are none, or a flag that is for texts.
      DataError: something in the set is broken; the message says where.
    """
    from optical_jax.data.images.captions import NoPicturesError
    from optical_jax.data.images.sources import is_image_set, read_image_set

    if not is_image_set(command.collection):
        if command.against != "auto":
            raise ConfigError(f"against={command.against}: {command.collection} is no set of pictures; leave it out")
        return None
    if command.against == "captions":
        return None
    try:
        # All languages: the teacher asks in English, and what is searched shall not depend on who searches.
        found = read_image_set(command.collection, command.split)
    except NoPicturesError as error:
        if command.against == "pictures" or command.pictures_by:
            raise
        print(f"{error}: captions are ranked against the English ones, text alone")
        return None
    for name, value in (("translations", " ".join(command.translations)), ("documents", command.documents)):
        if value not in ("", "auto"):
            raise ConfigError(f"{name}={value} is for collections of texts, and {command.collection} has pictures")
    return found


def evaluate(command: EvalCommand, found: ImageTextSet) -> None:
    """The command, on a set with its pictures."""
    from optical_jax.partitioning import over_all_devices

    with over_all_devices():
        if command.compare:
            compare(command, found)
        elif command.run:
            evaluate_run(command, found, Path(command.run))
        else:
            evaluate_model(command, found)


def evaluate_run(command: EvalCommand, found: ImageTextSet, run: Path) -> PictureEvaluation:
    """What a run trains beside itself untrained, and the teacher on English captions; written into the run."""
    from optical_jax.evaluation.gallery import write_gallery
    from optical_jax.evaluation.image_report import print_evaluation, write_files
    from optical_jax.runs.load import load
    from optical_jax.towers.images import image_tower_sha256

    step, cache_dir = checkpoint_step(run, command.checkpoint), command.cache_dir or None
    captions, own = choose_captions(command, found), own_system(run)
    towers = text_and_image_of_run(run, step, command.pictures_by, cache_dir)
    trained_on = counts_of_training(
        run, command.pictures_by or str(run), pictures_of(found), texts_of(found, captions), found.name, cache_dir
    )
    if trains_teacher(run) and not command.pictures_by:
        before = text_and_image_of_run(run, "untrained", cache_dir=cache_dir)
    else:
        # The same tower of pictures, which is encoded with once.
        before = towers._replace(text=text_of_run(run, "untrained", cache_dir))
    systems: dict[str, Asked] = {own: (towers, captions), "untrained": (before, captions)}
    english = english_captions(found, captions)
    if english and not trains_teacher(run):
        systems["teacher"] = towers._replace(text=load(run, part="teacher", cache_dir=cache_dir)), english
    origin = {"run": str(run), "checkpoint": step, "pictures_by": command.pictures_by}
    origin["image_tower"] = image_tower_sha256(towers.image)
    folder = results_folder(command, run, found)
    folder.mkdir(parents=True, exist_ok=True)
    evaluation = rank_and_judge(scored(command, towers), found, systems, origin, trained_on)

    low_resource = read_run_config(run).get("low_resource", LOW_RESOURCE)
    figures = evaluation.as_json(low_resource)
    (folder / "metrics.json").unlink(missing_ok=True)
    write_files(folder, evaluation, tag="_".join(run.resolve().name.split()))
    title = f"{found.name}, {found.split}: {own} of {run.resolve().name}, checkpoint {step}"
    write_gallery(folder / "gallery.html", title, gallery(evaluation, captions), pictures_of(found))
    drawn = try_to_draw(draw_recalls, figures, folder / "curves.png")
    # Last: a folder with metrics.json is whole.
    write_json(folder / "metrics.json", figures)
    if command.out and not command.compare:
        write_out(command.out, figures)
    print_evaluation(evaluation, low_resource)
    for name in ("gallery.html", *(["curves.png"] if drawn else [])):
        print(f"{name.partition('.')[0]}: {folder / name}")
    return evaluation


def evaluate_model(command: EvalCommand, found: ImageTextSet) -> None:
    """A pair, or a model of texts beside the tower of pictures of one."""
    from optical_jax.evaluation.image_report import print_evaluation
    from optical_jax.runs.load import is_run
    from optical_jax.towers.images import image_tower_sha256

    if is_run(Path(command.model)):
        raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
    pooling: Any = "auto" if command.pooling == "default" else command.pooling
    cache_dir, captions = command.cache_dir or None, choose_captions(command, found)
    towers = towers_of_model(command.model, command.pictures_by, pooling, cache_dir)
    origin = {"model": command.model, "pictures_by": command.pictures_by}
    origin["image_tower"] = image_tower_sha256(towers.image)
    trained_on = counts_of_training(
        None, command.pictures_by or command.model, pictures_of(found), texts_of(found, captions), found.name, cache_dir
    )
    evaluation = rank_and_judge(scored(command, towers), found, {"model": (towers, captions)}, origin, trained_on)
    if command.out:
        write_out(command.out, evaluation.as_json(LOW_RESOURCE))
    print_evaluation(evaluation, LOW_RESOURCE)


def rank_and_judge(
    command: EvalCommand,
    found: ImageTextSet,
    systems: Mapping[str, Asked],
    origin: Mapping[str, Any],
    trained_on: Mapping[str, Any],
) -> PictureEvaluation:
    """Search both ways for the first system and its references; pictures are encoded once by each tower of them.

    `origin` and `trained_on` are for the record: what is evaluated, and what of the set it learned from.
    """
    from optical_jax.evaluation.image_report import PictureEvaluation, Searched
    from optical_jax.retrieval.image_search import search_both_ways

    pictures = list(pictures_of(found))
    searched: dict[str, dict[str, Searched]] = {name: {} for name in systems}
    for image in {id(towers.image): towers.image for towers, _ in systems.values()}.values():
        picture_vectors = encode_all_pictures(command, image, found)
        for name, (towers, captions) in systems.items():
            if towers.image is not image:
                continue
            # What stands in for several languages, as English captions do for the teacher, is searched once.
            different = {id(of_language): of_language for of_language in captions.values()}
            done: dict[int, Searched] = {}
            for which, vectors in encode_captions(command, name, towers, different):
                t2i, i2t = search_both_ways(different[which], vectors, pictures, picture_vectors)
                picture_of = {caption: one.picture for caption, one in different[which].items()}
                done[which] = Searched(t2i, i2t, picture_of)
            searched[name] = {language: done[id(of_language)] for language, of_language in captions.items()}
    system = next(iter(systems))
    captions = {language: list(one) for language, one in systems[system][1].items()}
    return PictureEvaluation(
        name=found.name,
        split=found.split,
        scoring=command.scoring,
        system=system,
        found=searched,
        captions=captions,
        pictures=pictures,
        origin=origin,
        inputs=inputs_of(found),
        left_out=found.left_out,
        trained_on=trained_on,
    )


def inputs_of(found: ImageTextSet) -> dict[str, str]:
    """sha256 of every file by name, and of all pictures together, which may be a file each."""
    from optical_jax.data.collections.captions import hashes

    return hashes(found.files) | {"pictures": pictures_of(found).sha256}


def encode_all_pictures(command: EvalCommand, image: Tower, found: ImageTextSet) -> list[Vectors]:
    """The vectors of every picture of the set, in its order."""
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.image_search import by_position
    from optical_jax.towers.images import encode_images

    pictures, pooled = pictures_of(found), command.scoring == "pooled"
    with ProgressReport("encoding pictures", len(pictures), "pictures") as progress:
        blocks = encode_images(
            image, pictures, list(pictures), pooled=pooled, batch_size=command.batch_size, advance=progress.advance
        )
        return by_position(blocks, len(pictures))


def encode_captions(
    command: EvalCommand, system: str, towers: TextAndImage, captions: Mapping[int, Mapping[str, Caption]]
) -> Iterator[tuple[int, list[Vectors]]]:
    """The vectors of one set of captions after the other, in their order."""
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.image_search import by_position
    from optical_jax.retrieval.search import encode_blocks

    encode, total = make_encode(command, towers.text), sum(map(len, captions.values()))
    with ProgressReport(f"encoding captions, {system}", total, "texts") as progress:
        for which, of_language in captions.items():
            texts = [one.text for one in of_language.values()]
            yield which, by_position(encode_blocks(texts, encode, progress.advance), len(texts))


def scored(command: EvalCommand, towers: TextAndImage) -> EvalCommand:
    """The command with the scoring that "auto" stands for."""
    if command.scoring != "auto":
        return command
    return replace(command, scoring="pooled" if towers.by_means else "maxsim")


def pictures_of(found: ImageTextSet) -> Pictures:
    assert found.pictures is not None, "sets without pictures are ranked as texts"
    return found.pictures


def choose_captions(command: EvalCommand, found: ImageTextSet) -> Captions:
    """The captions of the languages asked for, or of all.

    Raises:
      DataError: the set has none in a language.
    """
    from optical_jax.data.collections.captions import select_languages

    return select_languages(found, command.lang)


def english_captions(found: ImageTextSet, captions: Captions) -> Captions:
    """In place of each language's captions the English ones of the same pictures; none for one without any."""
    english = found.captions.get("en", {})
    chosen: Captions = {}
    of_pictures: dict[frozenset[str], dict[str, Caption]] = {}
    for language, of_language in captions.items():
        there = frozenset(caption.picture for caption in of_language.values())
        if there not in of_pictures:
            of_pictures[there] = {name: caption for name, caption in english.items() if caption.picture in there}
        if of_pictures[there]:
            chosen[language] = of_pictures[there]
    return chosen


def texts_of(found: ImageTextSet, captions: Captions) -> list[str]:
    """All texts of the captions that ask, and of the English ones of the same pictures."""
    asking = [*captions.values(), *english_captions(found, captions).values()]
    return [caption.text for of_language in asking for caption in of_language.values()]


def gallery(evaluation: PictureEvaluation, captions: Captions) -> dict[str, list[GalleryQuery]]:
    """Language -> the queries of the page that shows the best and the worst."""
    from optical_jax.evaluation.gallery import gallery_queries

    place = {name: n for n, name in enumerate(evaluation.pictures)}
    return {
        language: gallery_queries(
            [caption.text for caption in captions[language].values()],
            [[place[caption.picture]] for caption in captions[language].values()],
            searched.t2i.ranking,
            searched.t2i.ranks.tolist(),
            evaluation.pictures,
        )
        for language, searched in evaluation.found[evaluation.system].items()
    }


# ---- two runs ----------------------------------------------------------------------------------------------------


def compare(command: EvalCommand, found: ImageTextSet) -> None:
    """Paired tests of the second run against the first, over the same pictures."""
    from optical_jax.evaluation.image_report import compare_by_picture, print_comparison, tests_json

    runs = [Path(run) for run in command.compare]
    steps = [checkpoint_step(run, command.checkpoint) for run in runs]
    languages = list(choose_captions(command, found))
    figures, scorings = zip(
        *(own_figures(command, run, step, found, languages) for run, step in zip(runs, steps, strict=True)), strict=True
    )
    tests = compare_by_picture(*figures)
    for name, run, step, scoring in zip("AB", runs, steps, scorings, strict=True):
        print(f"{name} = {run}, checkpoint {step}, {scoring}")
    print_comparison(tests)
    if command.out:
        content = {
            "collection": found.name,
            "split": found.split,
            "searched": "pictures",
            "scoring": list(scorings),
            "runs": list(command.compare),
            "checkpoints": steps,
            "tests": tests_json(tests),
        }
        write_out(command.out, content)


def own_figures(
    command: EvalCommand, run: Path, step: int, found: ImageTextSet, languages: Sequence[str]
) -> tuple[Mapping[str, PerQuery], str]:
    """Figures by picture, and their scoring; from the last evaluation if that ranked the same by the same towers."""
    from optical_jax.evaluation.image_report import read_by_picture
    from optical_jax.towers.images import image_tower_sha256

    system, folder, asked = own_system(run), results_folder(command, run, found), list(languages)
    if (folder / "metrics.json").is_file():
        saved = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        towers = text_and_image_of_run(run, step, command.pictures_by, command.cache_dir or None)
        wanted = {
            "checkpoint": step,
            "image_tower": image_tower_sha256(towers.image),
            "scoring": scored(command, towers).scoring,
            "inputs": inputs_of(found),
        }
        if all(saved.get(name) == value for name, value in wanted.items()):
            if set(asked) <= set(saved["languages"]):
                return read_by_picture(folder, system, asked), saved["scoring"]
            # Results that hold are not thrown away for those of other languages.
            asked = list(dict.fromkeys([*saved["languages"], *asked]))
    scoring = evaluate_run(replace(command, lang=tuple(asked)), found, run).scoring
    return read_by_picture(folder, system, languages), scoring


def results_folder(command: EvalCommand, run: Path, found: ImageTextSet) -> Path:
    how = "" if command.scoring == "auto" else f"-{command.scoring}"
    return run / "eval" / f"{found.name}-{found.split}{how}"
