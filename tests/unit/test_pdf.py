"""`pdf`: its outputs are read with other libraries, and what it is given is written by hand."""

import json
import zlib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from PIL import Image
from pydantic import ValidationError

from gristmill import Context, InputFile, InvalidInput, LimitExceeded, Output
from services.processor import registry
from services.processor.processors.pdf import MAX_TEXT_BYTES, Pdf, PdfParams
from services.processor.sandbox.process import RunFailed
from tests.fakes.pdfs import pdf, stream
from tests.support.sandboxed import outputs_of
from tests.unit.test_processor_sandbox import MIB, sandbox

RED, WHITE = (255, 0, 0), (255, 255, 255)


def run(folder: Path, content: bytes, **params: Any) -> list[Output]:
    path = folder / "input"
    path.write_bytes(content)
    file = InputFile(path, "grist.pdf", "application/pdf", len(content))
    return list(Pdf().process(file, PdfParams.model_validate(params), Context(folder, folder / "progress")))


def info(folder: Path, content: bytes, **params: Any) -> dict[str, Any]:
    (output,) = run(folder, content, outputs=["info"], **params)
    assert (output.name, output.mimetype) == ("info.json", "application/json")
    found: dict[str, Any] = json.loads(output.path.read_text())
    return found


def text(folder: Path, content: bytes, **params: Any) -> str:
    (output,) = run(folder, content, outputs=["text"], **params)
    assert (output.name, output.mimetype) == ("text.txt", "text/plain")
    return output.path.read_text(encoding="utf-8")


def refusal(folder: Path, content: bytes, **params: Any) -> str:
    with pytest.raises(InvalidInput) as refused:
        run(folder, content, **params)
    return str(refused.value)


def test_gives_facts_and_text_by_default(tmp_path: Path) -> None:
    assert [output.name for output in run(tmp_path, pdf(2))] == ["info.json", "text.txt"]


def test_the_facts_are_those_of_the_document(tmp_path: Path) -> None:
    facts = (
        b"/Title(The Mill)/Author<FEFF00C400730061D83DDE00>/CreationDate(D:20260102030405+01'30')/ModDate(yesterday)"
    )
    assert info(tmp_path, pdf(2, box="0 0 595.276 841.89", info=facts)) == {
        "pages": 2,
        "version": "1.7",
        "encrypted": False,
        "tagged": False,
        "form": False,
        "title": "The Mill",
        "author": "Äsa😀",
        "created": "2026-01-02T03:04:05+01:30",
        "modified": "yesterday",
        "sizes": [{"page": 1, "width": 595.28, "height": 841.89}, {"page": 2, "width": 595.28, "height": 841.89}],
    }


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"D:20260102030405Z", "2026-01-02T03:04:05Z"),
        (b"D:20260102030405", "2026-01-02T03:04:05"),
        (b"D:202601020304", "2026-01-02T03:04:00"),
        (b"D:2026", "2026"),
        (b"D:20260102030405-08'00", "2026-01-02T03:04:05-08:00"),
    ],
)
def test_dates_are_those_of_rfc_3339_as_far_as_they_go(tmp_path: Path, written: bytes, shown: str) -> None:
    assert info(tmp_path, pdf(info=b"/CreationDate(%s)" % written))["created"] == shown


def test_no_text_of_the_document_upsets_a_reader_of_json(tmp_path: Path) -> None:
    """A null, an end of line, an override of direction, half a character; and a title of 100,000 letters."""
    facts = b"/Author<FEFF0041000000420000000D000A0043202E0044D83D0045>/Title(%s)" % (b"x" * 100_000)
    found = info(tmp_path, pdf(info=facts))
    assert found["author"].replace(" ", "") == "ABCDE"
    assert len(found["title"]) == 1000


def test_each_page_ends_with_a_form_feed(tmp_path: Path) -> None:
    assert text(tmp_path, pdf(3)) == "Page 1 of grist.\n\fPage 2 of grist.\n\fPage 3 of grist.\n\f"
    assert text(tmp_path, pdf(content=b"0 0 10 10 re f")) == "\f"


def test_text_has_characters_of_all_planes(tmp_path: Path) -> None:
    """Two letters in a font that says of them what they are: an emoji, and a form feed, which only ends pages."""
    glyphs = b"1 begincodespacerange <00><FF> endcodespacerange 2 beginbfchar <41><D83DDE00> <42><000C> endbfchar"
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 8 0 R>>"
    names = stream(b"begincmap " + glyphs + b" endcmap")
    content = b"BT /F2 24 Tf 72 700 Td (ABA) Tj ET"
    whole = pdf(content=content, resources=b"/Font<</F2 7 0 R>>", more=(font, names))
    assert text(tmp_path, whole) == "😀😀\n\f"


def test_a_word_that_a_line_cut_in_two_is_one_again(tmp_path: Path) -> None:
    content = b"BT /F1 24 Tf 72 700 Td (Two mill-) Tj 0 -30 Td (stones) Tj 0 -30 Td (grind.) Tj ET"
    assert text(tmp_path, pdf(content=content)) == "Two millstones\ngrind.\n\f"


@pytest.mark.parametrize(
    ("pages", "taken"),
    [("2", [2]), ("1-3", [1, 2, 3]), ("4-", [4, 5]), ("5,1-2", [1, 2, 5]), ("1-3,2-4,3", [1, 2, 3, 4])],
)
def test_pages_are_chosen_each_once_in_the_order_of_the_document(tmp_path: Path, pages: str, taken: list[int]) -> None:
    assert text(tmp_path, pdf(5), pages=pages) == "".join(f"Page {n} of grist.\n\f" for n in taken)
    assert [size["page"] for size in info(tmp_path, pdf(5), pages=pages)["sizes"]] == taken


@pytest.mark.parametrize("pages", ["6", "4-6", "6-", "3-2", "1,999999"])
def test_pages_that_are_not_there_are_named(tmp_path: Path, pages: str) -> None:
    assert refusal(tmp_path, pdf(5), pages=pages) == f"There are no pages {pages.split(',')[-1]}: the PDF has 5."


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
def test_pictures_show_the_pages(tmp_path: Path, format_: str) -> None:
    outputs = run(tmp_path, pdf(3, box="0 0 501 400"), outputs=["pictures"], pages="2-", dpi=72, format=format_)
    assert [output.name for output in outputs] == [f"page-002.{format_}", f"page-003.{format_}"]
    for output in outputs:
        with Image.open(output.path) as picture:
            assert Image.MIME[str(picture.format)] == output.mimetype
            assert picture.size == (501, 400)
            shown = picture.convert("RGB")
            for place, colour in (((200, 200), RED), ((50, 200), WHITE), ((490, 390), WHITE)):
                found = shown.getpixel(place)
                assert isinstance(found, tuple)
                assert all(abs(have - want) < 12 for have, want in zip(found, colour, strict=True))


def test_pictures_have_the_width_or_the_dpi_that_is_asked_for(tmp_path: Path) -> None:
    for params, size in (({"width": 200}, (200, 400)), ({"dpi": 36}, (50, 100)), ({}, (209, 417))):
        (output,) = run(tmp_path, pdf(box="0 0 100 200"), outputs=["pictures"], **params)
        with Image.open(output.path) as picture:
            assert picture.size == size
            if "width" not in params:
                assert [round(dpi) for dpi in picture.info["dpi"]] == [params.get("dpi", 150)] * 2


def test_what_was_filled_into_a_form_is_drawn(tmp_path: Path) -> None:
    form = stream(b"0 0 1 rg 0 0 100 100 re f", b"/Type/XObject/Subtype/Form/BBox[0 0 100 100]")
    field = b"<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/V(b)/Rect[0 0 100 100]/F 4/P 5 0 R/AP<</N 7 0 R>>>>"
    content = pdf(box="0 0 100 100", more=(form, field))
    content = content.replace(b"/Catalog", b"/Catalog/AcroForm<</Fields[8 0 R]>>").replace(
        b"/Page/", b"/Page/Annots[8 0 R]/"
    )
    picture = run(tmp_path, content, outputs=["pictures"], dpi=72)[0]
    with Image.open(picture.path) as shown:
        assert shown.getpixel((50, 50)) != (255, 255, 255)
    assert info(tmp_path, content)["form"] is True


def test_outputs_come_in_the_order_asked_for(tmp_path: Path) -> None:
    outputs = run(tmp_path, pdf(2), outputs=["pictures", "info", "text"], dpi=20)
    assert [output.name for output in outputs] == ["page-001.png", "page-002.png", "info.json", "text.txt"]
    assert float((tmp_path / "progress").read_text()) == 1.0


@pytest.mark.parametrize(
    "params",
    [
        {"outputs": []},
        {"outputs": ["text", "text"]},
        {"outputs": ["html"]},
        {"pages": "0"},
        {"pages": "1-2-3"},
        {"pages": "1,"},
        {"pages": "all"},
        {"pages": "1," * 200 + "1"},
        {"dpi": 72, "width": 100},
        {"dpi": 5000},
        {"password": "secret"},
    ],
    ids=str,
)
def test_front_refuses_what_the_processor_would_refuse(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PdfParams.model_validate(params)
    assert not jsonschema_rs.is_valid(Pdf().params_schema(), params)


def test_a_password_is_needed_and_there_is_no_way_to_give_it(tmp_path: Path) -> None:
    assert "protected by a password" in refusal(tmp_path, pdf(password="grist"))


def test_a_document_that_anyone_may_open_is_read_though_it_is_encrypted(tmp_path: Path) -> None:
    content = pdf(password="")
    assert b"grist" not in content
    assert text(tmp_path, content) == "Page 1 of grist.\n\f"
    assert info(tmp_path, content)["encrypted"] is True


def test_encryption_by_certificate_is_refused(tmp_path: Path) -> None:
    content = pdf().replace(b"/Root 1 0 R", b"/Root 1 0 R/Encrypt<</Filter/Adobe.PubSec/V 4>>")
    assert "encrypted in a way" in refusal(tmp_path, content)


def test_each_kind_of_broken_file_is_told_from_the_others(tmp_path: Path) -> None:
    whole = pdf(3)
    assert refusal(tmp_path, b"") == refusal(tmp_path, b"MZ" + bytes(5000)) == "The file isn't a PDF."
    for cut in (30, len(whole) // 2, len(whole) - 22):
        assert refusal(tmp_path, whole[:cut]) == "The PDF is cut short: its end is missing."
    assert refusal(tmp_path, b"%PDF-1.7\n" + bytes(5000) + b"startxref\n0\n%%EOF") == "The PDF is broken."
    assert refusal(
        tmp_path, whole.replace(b"/Count 3/Kids[5 0 R 7 0 R 9 0 R]", b"/Count 0/Kids[]".ljust(32))
    ).startswith("The PDF is broken")
    assert refusal(
        tmp_path, whole.replace(b"/Type/Page/", b"/Tope/Pope/", 1).replace(b"5 0 obj\n<<", b"5 0 obj\n((", 1)
    )


def test_a_table_that_is_wrong_is_made_anew_as_viewers_do(tmp_path: Path) -> None:
    whole = pdf(2)
    assert text(tmp_path, whole.replace(b"0000000", b"0000009")) == text(tmp_path, whole)


def test_a_document_of_10_000_pages_is_refused_before_the_work(tmp_path: Path) -> None:
    content = pdf(10_000)
    for outputs in (["info"], ["text"], ["pictures"]):
        with pytest.raises(LimitExceeded, match="10,000 pages"):
            run(tmp_path, content, outputs=outputs)
    assert not (tmp_path / "progress").exists()
    assert text(tmp_path, content, pages="9999-") == "Page 9999 of grist.\n\fPage 10000 of grist.\n\f"
    assert info(tmp_path, content, pages="1")["pages"] == 10_000


def test_more_pictures_than_are_made_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded, match="201 pages"):
        run(tmp_path, pdf(201), outputs=["text", "pictures"])
    assert len(text(tmp_path, pdf(201)).split("\f")) == 202


@pytest.mark.parametrize(
    ("box", "dpi"), [("0 0 14400 14400", 72), ("0 0 1000000000 1000000000", 10), ("0 0 14400 1", 600)]
)
def test_a_page_as_large_as_a_field_is_refused_before_it_is_drawn(tmp_path: Path, box: str, dpi: int) -> None:
    content = pdf(1, box=box)
    with pytest.raises(LimitExceeded, match="Page 1 would be"):
        run(tmp_path, content, outputs=["pictures"], dpi=dpi)
    assert text(tmp_path, content)


def test_a_page_without_a_size_has_that_of_a_letter(tmp_path: Path) -> None:
    assert info(tmp_path, pdf(box="0 0 0 0"))["sizes"] == [{"page": 1, "width": 612.0, "height": 792.0}]


@pytest.mark.long
def test_text_has_a_limit(tmp_path: Path) -> None:
    """Pages may share what is on them, so a small file can have much text."""
    lines = (b"(" + b"grist " * 100 + b") Tj 0 -1 Td ") * 1_200
    content = stream(zlib.compress(b"BT /F1 1 Tf 1 10000 Td " + lines + b"ET"), b"/Filter/FlateDecode")
    pages = MAX_TEXT_BYTES // (600 * 1_200) + 2
    whole = pdf(pages, content=b" ", more=(content,))
    for n in range(pages):
        whole = whole.replace(b"/Contents %d 0 R>>" % (6 + 2 * n), b"/Contents %d 0 R>>" % (5 + 2 * pages))
    assert len(whole) < MIB
    with pytest.raises(LimitExceeded, match="The text is longer"):
        run(tmp_path, whole, outputs=["text"])


def image_bomb(side: int) -> bytes:
    entries = (
        b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/FlateDecode"
    )
    packed = zlib.compressobj(9)
    pixels = b"".join(packed.compress(bytes(side * 3)) for _ in range(side)) + packed.flush()
    image = stream(pixels, entries % (side, side))
    return pdf(content=b"600 0 0 600 0 0 cm /I Do", resources=b"/XObject<</I 7 0 R>>", more=(image,))


async def confined(folder: Path, content: bytes, memory_bytes: int, **params: Any) -> list[Output]:
    (folder / "input").write_bytes(content)
    file = InputFile(folder / "input", "a.pdf", "application/pdf", len(content))
    return await outputs_of(sandbox(memory_bytes), registry.installed()["pdf"], file, params, folder)


async def test_pdfium_works_in_a_forked_child(tmp_path: Path) -> None:
    outputs = await confined(tmp_path, pdf(2), 2048 * MIB, outputs=["text", "pictures"])
    assert [output.name for output in outputs] == ["text.txt", "page-001.png", "page-002.png"]
    with Image.open(outputs[1].path) as picture:
        assert picture.size == (1275, 1650)


async def test_the_largest_picture_of_a_page_fits_into_the_memory_that_a_run_has_by_default(tmp_path: Path) -> None:
    outputs = await confined(tmp_path, pdf(box="0 0 9999 9999"), 2048 * MIB, outputs=["pictures"], dpi=72)
    assert outputs[0].path.stat().st_size > 1000


async def test_a_picture_inside_a_page_is_not_held_whole(tmp_path: Path) -> None:
    """It has 20,000 x 20,000 pixels, which are 1.2 GB."""
    content = image_bomb(20_000)
    assert len(content) < 4 * MIB
    assert len(await confined(tmp_path, content, 400 * MIB, outputs=["pictures"])) == 1


async def test_a_bomb_of_text_harms_nobody(tmp_path: Path) -> None:
    content = b"BT /F1 1 Tf 1 700 Td " + b"(gristgristgrist) Tj " * 10_000_000 + b"ET"
    bomb = stream(zlib.compress(content), b"/Filter/FlateDecode")
    whole = pdf(content=b" ", more=(bomb,)).replace(b"/Contents 6 0 R", b"/Contents 7 0 R")
    assert len(whole) < MIB
    with pytest.raises(RunFailed) as failed:
        await confined(tmp_path, whole, 400 * MIB, outputs=["text"])
    assert failed.value.type in ("resource-limit", "limit")
