"""Texts that tried to become paths, commands, templates, addresses or code elsewhere; over a thousand of them."""

import itertools
import random
from pathlib import Path

UP = (
    *("../", "..\\", "..//", "....//", "..;/", "%2e%2e/", "%2e%2e%2f", "..%2f", "%252e%252e%252f", "..%5c"),
    *("%c0%ae%c0%ae/", "..%00/", ".../", "\u2024\u2024/", "．．／", "..∕", "/../", "/./../", "a/../../"),
)
DEPTHS = (1, 2, 3, 6, 12)
BEFORE = ("", "/", "./", "file-x/", "file://", "\\\\?\\", "~/", "//")
COMMANDS = r"""
; touch {c}
| touch {c}
& touch {c} &
&& touch {c}
|| touch {c}
`touch {c}`
$(touch {c})
'; touch {c}; '
"; touch {c}; "
-o{c}
--output={c}
> {c}
{touch,{c}}
a;touch${IFS}{c}
%0atouch {c}
x' || touch {c} #
\$(touch {c})
<(touch {c})
__import__('os').system('touch {c}')
{{ cycler.__init__.__globals__.os.system('touch {c}') }}
{% import 'os' as os %}{{ os.popen('touch {c}').read() }}
{{ ''.__class__.__mro__ }}
{0.__class__.__init__.__globals__}
${jndi:ldap://127.0.0.1:9/{c}}
!!python/object/apply:os.system ['touch {c}']
%(x)s%n%n
open('{o}').read()
'; drop table keys; --
' or 1=1 --
x' union select hash from keys --
"; attach '{c}' as x; --
load_extension('{o}')
"""
ADDRESSES = """
http://127.0.0.1:9/{o}
http://169.254.169.254/latest/meta-data/
http://[::1]:9/
http://0x7f000001:9/
https://canary.invalid/{c}
//canary.invalid/x
ftp://canary.invalid/x
gopher://127.0.0.1:9/_x
file://{o}
hf://datasets/evil/x
s3://evil/x
data:text/plain;base64,eA==
http://canary.invalid@127.0.0.1:9/
unix:///{o}
evil/repo
canary.invalid/evil/repo:latest
git+https://canary.invalid/x.git
"""
ODD = (
    *("", " ", ".", "..", "/", "\\", "~", "~root", "-", "--help", "*", "?", "NUL", "CON", "aux.txt", "a" * 5000),
    *("a/" * 2000, "\x00", "a\x00b", "{o}\x00.jsonl", "\x1b[2J", "\u202egnp.exe", "\ufeff", "\u2028", "é" * 300),
    *("\r\nSet-Cookie: a=b", "\n touch {c}\n", "\r\n touch {c}", "\\\\canary.invalid\\share", "null", "None", "NaN"),
    *("true", "0", "-1", "99999999999999999999", "1e999", "[]", "{}", "file-", "file-" + "A" * 24, "file-" + "a" * 23),
    *("file-" + "a" * 25, "file-" + "a" * 24 + "/", "ftjob-" + "a" * 24 + "\n", "\U0001f4a9" * 50, "TINY", "tiny\x00"),
    *("ft:tiny:luthier::../../x", "ft:{o}", "tiny/../{o}", "{o}", "{c}", "./service.db", "service.db-wal"),
)


def payloads(outside: Path, canary: Path) -> list[str]:
    """Return the texts: each would read what lies outside, leave a canary, or call an address, where it is believed."""
    target = str(outside).lstrip("/")
    ups = [up * depth for up, depth in itertools.product(UP, DEPTHS)]
    paths = [before + up + end for before, up in itertools.product(BEFORE, ups) for end in (target, "etc/passwd")]
    others = [*COMMANDS.strip().splitlines(), *ADDRESSES.strip().splitlines(), *ODD]
    filled = [text.replace("{c}", str(canary)).replace("{o}", str(outside)) for text in others]
    assert len(paths) + len(filled) >= 1000
    return [*filled, *paths]


def some(all_of_them: list[str], count: int, seed: int) -> list[str]:
    """Return a few, others for each seed, so that all are used in the end."""
    return random.Random(seed).sample(all_of_them, count)
