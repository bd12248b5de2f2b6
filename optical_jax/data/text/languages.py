"""Language codes and names: which of ISO 639's codes, and which words in a header, mean the same language."""

from __future__ import annotations

import re

_SAME = """
aa aar afar; ab abk abkhaz abkhazian; ace acehnese; af afr afrikaans; ak aka tw twi fat akan; am amh amharic;
an arg aragonese; ar ara arb arabic; ary moroccan; arz egyptian; as asm assamese; ast asturian; av ava avaric;
awa awadhi; ay aym ayr aymara; az aze azj azerbaijani; ba bak bashkir; ban balinese; be bel belarusian;
bem bemba ichibemba; bg bul bulgarian; bho bhojpuri; bi bis bislama; bm bam bambara bamanankan; bn ben bengali bangla;
bo bod tib tibetan; br bre breton brezhoneg; bs bos bosnian bosanski; ca cat catalan; ce che chechen; ceb cebuano;
ch cha chamorro; ckb sorani; co cos corsican; cs ces cze czech; cv chv chuvash; cy cym wel welsh cymraeg;
da dan danish dansk; de deu ger german deutsch; din dik dinka; dv div dhivehi; dyu dyula; dz dzo dzongkha; ee ewe;
el ell gre greek; en eng english; eo epo esperanto; es spa spanish; et est ekk estonian eesti; eu eus baq basque;
fa fas per pes persian farsi; ff ful fuv fulah fulfulde pulaar; fi fin finnish suomi; fj fij fijian; fo fao faroese;
fon fongbe; fr fra fre french; fur friulian; fy fry frisian; ga gle irish gaeilge; gd gla gaelic; gl glg galician;
gn grn gug guarani; gu guj gujarati; ha hau hausa; haw hawaiian; he iw heb hebrew; hi hin hindi; hmn hmong;
hr hrv croatian hrvatski; hne chhattisgarhi; ht hat haitian; hu hun hungarian magyar; hy hye arm armenian;
id ind indonesian; ig ibo igbo; ilo ilocano iloko; is isl ice icelandic; it ita italian italiano; iu iku inuktitut;
ja jp jpn japanese; jv jav javanese; ka kat geo georgian; kab kabyle; kam kamba kikamba; kea kabuverdianu;
kg kon kng kongo kikongo; ki kik kikuyu gikuyu; kk kaz kazakh; kl kal kalaallisut greenlandic; km khm khmer;
kmb kimbundu; kn kan kannada; ko kor korean; kr kau knc kanuri; ks kas kashmiri; ku kur kmr kurdish kurmanji;
kv kom komi; kw cor cornish; ky kir kyrgyz; la lat latin; lb ltz luxembourgish; lg lug luganda ganda; li lim limburgish;
lij ligurian; ln lin lingala; lo lao; lt lit lithuanian; lu lub luba; lua; luo dholuo; lus mizo; lv lav lvs latvian;
mag magahi; mai maithili; mg mlg plt malagasy; mi mri mao maori; min minangkabau; mk mkd mac macedonian;
ml mal malayalam; mn mon khk mongolian; mni manipuri meitei; mos mossi; mr mar marathi; ms msa may zsm malay melayu;
mt mlt maltese malti; my mya bur burmese; nb nob bokmal; ne nep npi nepali; nl nld dut dutch nederlands;
nn nno nynorsk; no nor norwegian norsk; nr nbl; nd nde ndebele; nso sepedi; nus nuer; nv nav navajo;
ny nya chichewa nyanja chewa; oc oci occitan; om orm gaz oromo; or ori ory odia oriya; os oss ossetic;
pa pan punjabi panjabi; pag pangasinan; pap papiamento; pcm pidgin; pl pol polish polski; ps pus pbt pashto;
pt por portuguese; qu que quechua; rm roh romansh; rn run rundi kirundi; ro ron rum romanian; ru rus russian;
rw kin kinyarwanda; sa san sanskrit; sat santali; sc srd sardinian; scn sicilian; sd snd sindhi; se sme sami;
sg sag sango; shn shan; si sin sinhala sinhalese; sk slk slo slovak; sl slv slovenian slovene; sm smo samoan;
sn sna shona chishona; so som somali soomaali; sq sqi alb als albanian shqip; sr srp serbian; ss ssw swati siswati;
st sot sesotho; su sun sundanese; sv swe swedish svenska; sw swa swh swahili kiswahili; szl silesian; ta tam tamil;
te tel telugu; tg tgk tajik; th tha thai; ti tir tigrinya; tk tuk turkmen; tl tgl fil tagalog filipino;
tn tsn tswana setswana; to ton tongan; tpi; tr tur turkish; ts tso tsonga xitsonga; tt tat tatar; tum tumbuka;
ty tah tahitian; ug uig uyghur; uk ukr ukrainian; umb umbundu; ur urd urdu; uz uzb uzn uzbek; ve ven venda;
vec venetian; vi vie vietnamese; war waray; wo wol wolof; xh xho xhosa isixhosa; yi yid ydd yiddish; yo yor yoruba;
yue cantonese; za zha zhuang; zh zho chi cmn chinese mandarin; zu zul zulu isizulu
"""
"""One language each: its codes of ISO 639 and its names, in English and where it is spoken. The names are CLDR's."""
WORDS = {word: words[0] for row in _SAME.split(";") for words in [row.split()] for word in words}
"""Code or name, in lower case -> the language's shortest code."""
ENGLISH = "en"


def language_key(code: str) -> str:
    """A language code without script and region, in its shortest form: sw of swh_Latn, swa and sw-KE."""
    primary = re.split("[-_]", code.strip().casefold())[0]
    return WORDS.get(primary, primary)


def find_language(language: str, codes: list[str]) -> str | None:
    """The code among `codes` that names a language: the same code, else the first of the same language."""
    plain = {code: code.strip().casefold().replace("_", "-") for code in codes}
    wanted = language.casefold().replace("_", "-")
    same = [code for code in codes if plain[code] == wanted]
    return next(iter(same or [code for code in codes if code and language_key(code) == language_key(language)]), None)
