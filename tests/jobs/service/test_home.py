import os
import stat
from pathlib import Path

import pytest

from luthier.core.errors import ResourceError
from luthier.jobs.service.home import open_home, open_kept, open_new, remove
from luthier.jobs.service.ids import new_id


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_home_is_private_even_where_it_was_not(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    home = open_home(tmp_path / "home")
    assert {mode(path) for path in (home.path, home.files, home.uploads, home.jobs)} == {0o700}


def test_new_files_are_private_and_never_replace(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    path = home.file(new_id("file-"))
    with open_new(path) as file:
        file.write(b"a")
    assert mode(path) == 0o600
    with pytest.raises(FileExistsError):
        open_new(path)
    with open_kept(path) as file:
        assert file.read() == b"a"


def test_links_are_never_followed(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    secret = tmp_path / "secret"
    secret.write_text("outside")
    link = home.file(new_id("file-"))
    link.symlink_to(secret)
    with pytest.raises(OSError):
        open_kept(link)
    link.unlink()
    link.symlink_to(tmp_path / "not there")
    with pytest.raises(OSError):
        open_new(link)
    folder = home.upload(new_id("upload_"))
    folder.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(OSError):
        open_kept(folder / "secret")
    remove(folder)
    assert secret.read_text() == "outside" and not os.path.lexists(folder)


def test_a_home_whose_folder_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "files").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ResourceError, match="is a link"):
        open_home(tmp_path / "home")
