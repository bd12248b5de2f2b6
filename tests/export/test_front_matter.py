"""The YAML that the Hub reads, of all three cards: the values, whatever form the library writes them in."""

from dataclasses import replace
from typing import Any

import pytest

from optical_jax.config import ImageStageConfig, TeacherStageConfig, to_json
from optical_jax.export.card import Model
from optical_jax.export.image_teacher_card import PairFacts, image_teacher_card
from optical_jax.export.student_card import model_card
from optical_jax.export.teacher_card import teacher_card
from optical_jax.towers.pair import load_pair
from tests.export.test_student_card import FACTS, front_matter
from tests.helpers.image_runs import make_pair

HUB, LOCAL, NONE = Model("org/xlmr", hub=True), Model("mine", hub=False), Model("", hub=False)
TEXT = {
    "library_name": "sentence-transformers",
    "pipeline_tag": "sentence-similarity",
    "tags": ["colbert", "late-interaction", "cross-lingual", "optical_jax"],
}


@pytest.mark.parametrize("license", ["", "cc-by-4.0", 'other: "as is", #1', "no", "1.0", "licence für Ñandú " * 9])
def test_a_licence_is_text_whatever_it_says(license):
    expected = {"language": ["sw", "no"], **TEXT} | ({"license": license} if license else {})
    assert front_matter(model_card(replace(FACTS, license=license))) == expected


def test_a_student_of_a_run_without_records_names_no_language():
    assert front_matter(model_card(replace(FACTS, bitext={}, config={}, env={}))) == TEXT


@pytest.mark.parametrize(("start", "base"), [(HUB, {"base_model": "org/xlmr"}), (LOCAL, {}), (NONE, {})])
def test_a_teacher(start, base):
    config: dict[str, Any] = to_json(TeacherStageConfig())
    config["data"]["language"] = "no"
    # The encoder that it began from is its base; what a student would be taught by is none of its own.
    facts = replace(FACTS, config=config, bitext={}, start=start, teacher=Model("org/minilm", hub=True), license="mit")
    assert front_matter(teacher_card(facts)) == {"language": ["no"], "license": "mit", **TEXT, **base}


def test_an_image_text_teacher(tmp_path):
    facts = PairFacts(
        name="run",
        folder="out",
        step=1,
        pair=load_pair(make_pair(tmp_path / "pair", seed=60)),
        text=HUB,
        image=Model("org/vit", hub=True),
        config=to_json(ImageStageConfig()),
    )
    expected = {
        "language": ["en"],
        "library_name": "optical_jax",
        "tags": ["image-text-retrieval", "vision", "optical_jax"],
    }
    assert front_matter(image_teacher_card(facts)) == expected | {"base_model": ["org/xlmr", "org/vit"]}
    facts = replace(facts, text=LOCAL, image=NONE, license="apache-2.0")
    assert front_matter(image_teacher_card(facts)) == expected | {"license": "apache-2.0"}
