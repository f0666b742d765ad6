"""What the files of each media type begin with.

A table of our own, because none of the libraries would do: puremagic 1.30 took a WAV for WebP and refused BigTIFF;
filetype had its last release in 2022; libmagic comes from the system or in wheels that nobody keeps; magika brings a
neural network. Signatures are those of WHATWG's MIME Sniffing and of each format's own specification: RFC 1952 (gzip),
RFC 8878 (Zstandard, whose first frame may be one to be skipped), ISO/IEC 23008-12 (HEIF), ISO 32000-1 (PDF).
"""

import re

_TABLE: tuple[tuple[str, str], ...] = (
    (r"\xff\xd8\xff", "image/jpeg"),
    (r"\x89PNG\r\n\x1a\n", "image/png"),
    (r"GIF8[79]a", "image/gif"),
    (r"RIFF.{4}WEBP", "image/webp"),
    (r"II[*+]\0|MM\0[*+]", "image/tiff"),
    (r".{4}ftypavi[fs]", "image/avif"),
    (r".{4}ftyphe[iv][cmsx]", "image/heic"),
    (r".{4}ftyp(mif[12]|msf1|miaf)", "image/heif"),
    (r"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", "image/jxl"),
    (r"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (r"BM.{4}\0\0\0\0", "image/bmp"),
    (r"\0\0\x01\0[^\0]\0", "image/vnd.microsoft.icon"),
    (r"8BPS\0[\x01\x02]", "image/vnd.adobe.photoshop"),
    (r".{0,1019}%PDF-", "application/pdf"),
    (r"%!PS", "application/postscript"),
    (r"\{\\rtf", "application/rtf"),
    (r"RIFF.{4}WAVE", "audio/wav"),
    (r"RIFF.{4}AVI ", "video/x-msvideo"),
    (r"FORM.{4}AIF[FC]", "audio/aiff"),
    (r"fLaC", "audio/flac"),
    (r"OggS.{24}.{0,2}(OpusHead|\x01?vorbis|Speex|\x7fFLAC)", "audio/ogg"),
    (r"OggS.{24}.{0,2}\x80theora", "video/ogg"),
    (r"OggS", "application/ogg"),
    (r"ID3[\x02-\x04]|\xff[\xfa\xfb\xf2\xf3\xe2\xe3]", "audio/mpeg"),
    (r"\xff[\xf0\xf1\xf8\xf9]", "audio/aac"),
    (r"#!AMR", "audio/amr"),
    (r"MThd\0\0\0\x06", "audio/midi"),
    (r".{4}ftypM4[AB] ", "audio/mp4"),
    (r".{4}ftypqt  ", "video/quicktime"),
    (r".{4}ftyp3g", "video/3gpp"),
    (r".{4}ftyp", "video/mp4"),
    (r"\x1a\x45\xdf\xa3.{0,60}webm", "video/webm"),
    (r"\x1a\x45\xdf\xa3", "video/x-matroska"),
    (r"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (r"\0\0\x01[\xb3\xba]", "video/mpeg"),
    (r"FLV\x01", "video/x-flv"),
    (r"PK\x03\x04.{26}mimetype(?P<named>application/[a-z0-9.+-]{1,80})", ""),
    (r"PK\x03\x04.{26}(META-INF/|\xfe\xca)", "application/java-archive"),
    (r"PK(\x03\x04|\x05\x06|\x07\x08)", "application/zip"),
    (r"\x1f\x8b\x08", "application/gzip"),
    (r"BZh[1-9]", "application/x-bzip2"),
    (r"\xfd7zXZ\0", "application/x-xz"),
    (r"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "application/zstd"),
    (r"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (r"Rar!\x1a\x07", "application/vnd.rar"),
    (r".{257}ustar", "application/x-tar"),
    (r"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (r"SQLite format 3\0", "application/vnd.sqlite3"),
    (r"wOFF", "font/woff"),
    (r"wOF2", "font/woff2"),
    (r"OTTO\0", "font/otf"),
    (r"\0\x01\0\0\0[^\0]", "font/ttf"),
    (r"\0asm\x01\0\0\0", "application/wasm"),
    (r"\x7fELF", "application/x-elf"),
)
SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern.encode("latin-1"), re.DOTALL), media_type) for pattern, media_type in _TABLE
)
"""Patterns for the first bytes, and the media type of each. The first one that matches counts."""


def signature_of(*media_types: str) -> re.Pattern[bytes]:
    """What a file that is of one of these media types begins with."""
    patterns = [f"(?:{pattern})" for pattern, media_type in _TABLE if media_type in media_types]
    return re.compile("|".join(patterns).encode("latin-1"), re.DOTALL)
