"""79 to 100: weights in other files."""
import os

from .base import *

W = 'initializer "w"'


def outside(folder, location, *, file="w.bin", **entries):
    """The product whose weight is at `location`; `file` is written beside the model."""
    if file:
        data_file(folder, file)
    write(folder, product(external("w", location, [4, 4], **entries)))


def secret(folder):
    return data_file(folder.parent, "secret.bin")


@bad(79, "missing file", INPUT, W, '"none.bin" does not exist')
def _(folder):
    outside(folder, "none.bin")


@bad(80, "file of the folder above", INPUT, W, '".."')
def _(folder):
    secret(folder)
    outside(folder, "../secret.bin")


@bad(81, "file above, by way of a subfolder", INPUT, W, '".."')
def _(folder):
    secret(folder)
    (folder / "a").mkdir()
    outside(folder, "a/../../secret.bin")


@bad(82, "absolute path", INPUT, W, "absolute")
def _(folder):
    outside(folder, str(secret(folder)))


@bad(83, "symbolic link to a file", INPUT, W, "symbolic link")
def _(folder):
    secret(folder)
    os.symlink("../secret.bin", folder / "w.bin")
    outside(folder, "w.bin", file=None)


@bad(84, "symbolic link to a folder", INPUT, W, "symbolic link")
def _(folder):
    data_file(folder.parent, "other/w.bin")
    os.symlink("../other", folder / "sub")
    outside(folder, "sub/w.bin", file=None)


@bad(85, "hard link", INPUT, W, "hard link")
def _(folder):
    os.link(secret(folder), folder / "w.bin")
    outside(folder, "w.bin", file=None)


@bad("86a", "offset beyond the end", INPUT, W, "too short")
def _(folder):
    outside(folder, "w.bin", offset=4096, length=64)


@bad("86b", "offset that overflows", INPUT, W, "too short")
def _(folder):
    outside(folder, "w.bin", offset=2**64 - 16)


@bad(87, "length beyond the end", INPUT, W, "too short")
def _(folder):
    outside(folder, "w.bin", offset=32, length=64)


@bad(88, "negative offset", INPUT, "w", "-4")
def _(folder):
    outside(folder, "w.bin", offset=-4)


@bad(89, "offset that is no number", INPUT, "w", "0x10")
def _(folder):
    outside(folder, "w.bin", offset="0x10")


@bad(90, "length that does not fit the shape", INPUT, W, "60", "64")
def _(folder):
    outside(folder, "w.bin", length=60)


@bad("91a", "empty location", INPUT, W, "location")
def _(folder):
    outside(folder, "")


@bad("91b", "no location", INPUT, W, "location")
def _(folder):
    outside(folder, None)


@bad(92, "location that is a folder", INPUT, W, "no regular file")
def _(folder):
    (folder / "sub").mkdir()
    outside(folder, "sub")


@bad("93a", "endless device, by its path", INPUT, W, "absolute")
def _(folder):
    outside(folder, "/dev/zero")


@bad("93b", "named pipe in the folder", INPUT, W, "no regular file")
def _(folder):
    os.mkfifo(folder / "w.bin")
    outside(folder, "w.bin", file=None)


@bad(94, "address in the memory of another program", INPUT, W, "does not exist")
def _(folder):
    outside(folder, "*/_ORT_MEM_ADDR_/*", offset=0x7f0000000000, length=64)


@bad("95a", "two locations", INPUT, "w", "twice", "location")
def _(folder):
    outside(folder, "w.bin", more=(("location", "none.bin"),))


@bad("95b", "two offsets", INPUT, "w", "twice", "offset")
def _(folder):
    outside(folder, "w.bin", offset=0, more=(("offset", 64),))


@legal("95c", "keys that nobody knows (ignored)")
def _(folder):
    outside(folder, "w.bin", more=(("basepath", "/etc"), ("colour", "red"), ("colour", "blue")))


@legal(96, "weights that overlap in the file")
def _(folder):
    data_file(folder, count=24)
    save(folder, [node("MatMul", ["x", "w"], "a"), node("MatMul", ["a", "v"], "y", "two")],
         [value("x", "n", 4)], [value("y", "n", 4)],
         [external("w", "w.bin", [4, 4]), external("v", "w.bin", [4, 4], offset=32)])


@legal(97, "offset that is not a multiple of the element's size")
def _(folder):
    data = data_file(folder)
    data.write_bytes(b"abc" + data.read_bytes())
    outside(folder, "w.bin", file=None, offset=3, length=64)


# 98, a file that shrinks while it is read, needs a script of its own: check_shrinking.py.


@legal(99, "wrong checksum (not computed: it would take as long as the compile)")
def _(folder):
    outside(folder, "w.bin", more=(("checksum", "0" * 40),))


@bad("100a", "Windows separators", INPUT, W, "backslash")
def _(folder):
    data_file(folder, "sub/w.bin")
    outside(folder, "sub\\w.bin", file=None)


@bad("100b", "drive letter", INPUT, W, "backslash")
def _(folder):
    outside(folder, "C:\\models\\w.bin")


@bad("100c", "Git LFS pointer in place of the data", INPUT, W, "git lfs pull")
def _(folder):
    (folder / "w.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:"
                                  + "0" * 64 + "\nsize 64\n")
    outside(folder, "w.bin", file=None)
