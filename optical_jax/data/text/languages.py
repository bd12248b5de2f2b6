"""Language codes and names: which of ISO 639's codes, and which words in a header, mean the same language."""

from __future__ import annotations

import re

_SAME = """
aa aar afar qafar; ab abk abkhaz abkhazian аԥсшәа; ace acehnese; af afr afrikaans; ak aka tw twi fat akan; am amh
amharic አማርኛ; an arg aragonese aragonés; ar ara arb arabic العربية; ary moroccan; arz egyptian; as asm assamese
অসমীয়া; ast asturian asturianu; av ava avaric; awa awadhi; ay aym ayr aymara; az aze azj azerbaijani azərbaycan; ba
bak bashkir; ban balinese; be bel belarusian беларуская; bem bemba ichibemba; bg bul bulgarian български; bho bhojpuri
भोजपुरी; bi bis bislama; bm bam bambara bamanankan bamanakan; bn ben bengali bangla বাংলা; bo bod tib tibetan; br bre
breton brezhoneg; bs bos bosnian bosanski; ca cat catalan català; ce che chechen нохчийн; ceb cebuano; ch cha chamorro;
ckb sorani; co cos corsican corsu; cs ces cze czech čeština; cv chv chuvash чӑваш; cy cym wel welsh cymraeg; da dan
danish dansk; de deu ger german deutsch; din dik dinka; dv div dhivehi ދިވެހިބަސް; dyu dyula; dz dzo dzongkha; ee ewe;
el ell gre greek ελληνικά; en eng english angelski angielski angilɛkan anglais angleščina anglica anglisht
anglisy angličtina anglès anglés anglëe anglų angol angļu bekee beurla borɔfo béarla chirungu eaŋgalsgiella engeleere
engels engelsk engelska englais englanti englesch engleski engleză englisch enska enskt gĩthungũ icongereza icyongereza
ingarihi ingelesa ingelsk inggeris inggris ingilis ingilizce ingiriisi ingleise ingles inglese inglesu ingleze inglis
inglise inglizcha ingliż inglés inglês isingesi iŋlisigbe kiingereza kingereza lingelesa lingɛlɛ́sa lungereza ngrisi
pelekānia saesneg saozneg seisimane sekgoa senyesemane sowsnek taglizit tuluttut turanci yinghyij ínglish îngilîzî
αγγλικά акӑлчан англи английски английский англисаг англиски англисче англисӣ англыз англійская англійська енглески
ингалсан инглиз անգլերեն אנגלית ענגליש ئىنگلىزچە ئینگلیزی الإنجليزية انګليسي انگريزي انگریزی انگلیسی اَنگیٖزؠ अंगरेजी
अंग्रेज़ी अङ्ग्रेजी आङ्ग्लभाषा इंग्रजी ইংরেজি ইংলিস ইংৰাজী ਅੰਗਰੇਜ਼ੀ અંગ્રેજી ଇଂରାଜୀ ஆங்கிலம் ఇంగ్లీష్ ಇಂಗ್ಲಿಷ್ ഇംഗ്ലീഷ്
ඉංග්රීසි อังกฤษ ອັງກິດ အင်္ဂလိပ် ინგლისური እንግሊዝኛ អង់គ្លេស ᱟᱝᱜᱽᱨᱮᱡᱤ 英文 英語 英语 영어; eo epo esperanto; es spa
spanish español; et est ekk estonian eesti; eu eus baq basque euskara; fa fas per pes persian farsi فارسی; ff ful fuv
fulah fulfulde pulaar; fi fin finnish suomi; fj fij fijian; fo fao faroese føroyskt; fon fongbe; fr fra fre french
français; fur friulian furlan; fy fry frisian frysk; ga gle irish gaeilge; gd gla gaelic gàidhlig; gl glg galician
galego; gn grn gug guarani; gu guj gujarati ગુજરાતી; ha hau hausa; haw hawaiian; he iw heb hebrew עברית; hi hin hindi
हिन्दी; hmn hmong; hr hrv croatian hrvatski; hne chhattisgarhi; ht hat haitian; hu hun hungarian magyar; hy hye arm
armenian հայերեն; id ind indonesian indonesia; ig ibo igbo; ilo ilocano iloko; is isl ice icelandic íslenska; it ita
italian italiano; iu iku inuktitut ᐃᓄᒃᑎᑐᑦ; ja jp jpn japanese 日本語; jv jav javanese jawa; ka kat geo georgian
ქართული; kab kabyle taqbaylit; kam kamba kikamba; kea kabuverdianu; kg kon kng kongo kikongo; ki kik kikuyu gikuyu; kk
kaz kazakh; kl kal kalaallisut greenlandic; km khm khmer ខ្មែរ; kmb kimbundu; kn kan kannada ಕನ್ನಡ; ko kor korean
한국어; kr kau knc kanuri; ks kas kashmiri کٲشُر; ku kur kmr kurdish kurmanji; kv kom komi; kw cor cornish kernewek; ky
kir kyrgyz кыргызча; la lat latin latina; lb ltz luxembourgish lëtzebuergesch; lg lug luganda ganda; li lim limburgish;
lij ligurian ligure; ln lin lingala lingála; lo lao ລາວ; lt lit lithuanian lietuvių; lu lub luba tshiluba; lua; luo
dholuo; lus mizo; lv lav lvs latvian latviešu; mag magahi; mai maithili मैथिली; mg mlg plt malagasy; mi mri mao maori
māori; min minangkabau; mk mkd mac macedonian македонски; ml mal malayalam മലയാളം; mn mon khk mongolian монгол; mni
manipuri meitei মৈতৈলোন্; mos mossi; mr mar marathi मराठी; ms msa may zsm malay melayu; mt mlt maltese malti; my mya
bur burmese မြန်မာ; nb nob bokmal; ne nep npi nepali नेपाली; nl nld dut dutch nederlands; nn nno nynorsk; no nor
norwegian norsk; nr nbl; nd nde ndebele; nso sepedi; nus nuer; nv nav navajo; ny nya chichewa nyanja chewa; oc oci
occitan; om orm gaz oromo oromoo; or ori ory odia oriya ଓଡ଼ିଆ; os oss ossetic ирон; pa pan punjabi panjabi ਪੰਜਾਬੀ; pag
pangasinan; pap papiamento papiamentu; pcm pidgin; pl pol polish polski; ps pus pbt pashto پښتو; pt por portuguese
português; qu que quechua runasimi; rm roh romansh rumantsch; rn run rundi kirundi ikirundi; ro ron rum romanian
română; ru rus russian русский; rw kin kinyarwanda ikinyarwanda; sa san sanskrit; sat santali ᱥᱟᱱᱛᱟᱲᱤ; sc srd sardinian
sardu; scn sicilian sicilianu; sd snd sindhi سنڌي; se sme sami davvisámegiella; sg sag sango sängö; shn shan တႆး; si
sin sinhala sinhalese සිංහල; sk slk slo slovak slovenčina; sl slv slovenian slovene slovenščina; sm smo samoan; sn sna
shona chishona; so som somali soomaali; sq sqi alb als albanian shqip; sr srp serbian српски; ss ssw swati siswati; st
sot sesotho; su sun sundanese; sv swe swedish svenska; sw swa swh swahili kiswahili; szl silesian ślōnski; ta tam tamil
தமிழ்; te tel telugu తెలుగు; tg tgk tajik тоҷикӣ; th tha thai ไทย; ti tir tigrinya ትግርኛ; tk tuk turkmen; tl tgl fil
tagalog filipino; tn tsn tswana setswana; to ton tongan; tpi; tr tur turkish türkçe; ts tso tsonga xitsonga; tt tat
tatar татар; tum tumbuka; ty tah tahitian; ug uig uyghur ئۇيغۇرچە; uk ukr ukrainian українська; umb umbundu; ur urd
urdu اردو; uz uzb uzn uzbek; ve ven venda tshivenḓa; vec venetian veneto; vi vie vietnamese; war waray; wo wol wolof;
xh xho xhosa isixhosa; yi yid ydd yiddish ייִדיש; yo yor yoruba; yue cantonese 粵語; za zha zhuang vahcuengh; zh zho
chi cmn chinese mandarin 中文; zu zul zulu isizulu
"""
"""One language each: its codes of ISO 639 and its names, in English and where it is spoken; English also has its names
in the others. The names are CLDR's, case-folded."""
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
