"""Platform profiles: find the file, read it with every problem at its place, and hand on plain values."""

from pathlib import Path

import msgspec

from zt_proxy.config.problems import START, Collector, ConfigurationProblems, Problem, Severity, nearest
from zt_proxy.config.profile_reader import Reader
from zt_proxy.config.templates import covers
from zt_proxy.config.tree import Mapping, parse, read_text
from zt_proxy.policy.profile_paths import ANYTHING, plain_template
from zt_proxy.policy.profile_spec import MatcherSpec, ProfileSpec

SHIPPED = Path(__file__).resolve().parent.parent / "profiles"
OWN = "profiles"
_SUFFIX = ".yaml"
_DEPTH = 8


class LoadedProfile(msgspec.Struct, frozen=True):
    """What came of a reference to a profile. `spec` is None when there is an error among the problems."""

    path: Path
    problems: tuple[Problem, ...]
    spec: ProfileSpec | None
    files: tuple[Path, ...] = ()
    """The file and those it extends: a change of any is a change of the profile."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


def known_profiles(base: Path | None = None) -> dict[str, Path]:
    """Name → file of every profile there is: those that come with the program, and those in `profiles/` below `base`,
    the folder of the configuration; of two with one name the operator's own."""
    folders = [SHIPPED] if base is None else [SHIPPED, base / OWN]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*" + _SUFFIX))}


def find(reference: str, base: Path | None) -> Path | None:
    """The file of a name, or of a path (with a `/`, or ending in `.yaml`) from `base`; None: no such name."""
    if "/" in reference or reference.endswith((_SUFFIX, ".yml")):
        return (base or Path()) / Path(reference).expanduser()
    return known_profiles(base).get(reference)


def load_profile(reference: str, base: Path | None = None) -> ProfileSpec:
    """A profile by name or path. Raises ConfigurationProblems with all that is wrong in its file."""
    loaded = read_profile(reference, base)
    if loaded.spec is None:
        raise ConfigurationProblems(loaded.problems)
    return loaded.spec


def read_profile(reference: str, base: Path | None = None) -> LoadedProfile:
    """The same, never raising for what the file holds or for its absence: see `problems`."""
    path = find(reference, base)
    if path is None:
        hint = nearest(reference, known_profiles(base)) or f"known: {', '.join(sorted(known_profiles(base)))}"
        told = Collector(Path(reference))
        told.error(START, f"`{reference}` is no profile", hint=hint)
        return LoadedProfile(Path(reference), tuple(told.sorted()), None)
    return read_file(path, base)


def read_file(path: Path, base: Path | None = None, _above: tuple[Path, ...] = ()) -> LoadedProfile:
    """The profile in a file; `base` is where the names of profiles it extends are looked up first."""
    problems = Collector(path)
    text = read_text(path, problems)
    tree = parse(text, problems) if text is not None else None
    if tree is None:
        return LoadedProfile(path, tuple(problems.sorted()), None, (path,))
    above = (*_above, path.resolve())
    parent = _parent(tree, problems, path, base, above)
    reader = Reader(problems)
    spec = reader.profile(tree, parent.spec if parent else None)
    _unreachable(tree, spec, reader.unclear, problems)
    files = (path, *(parent.files if parent else ()))
    return LoadedProfile(path, tuple(problems.sorted()), None if problems.has_errors() else spec, files)


def _parent(
    tree: Mapping, problems: Collector, path: Path, base: Path | None, above: tuple[Path, ...]
) -> LoadedProfile | None:
    """The profile that this one extends. One that has the name of the one it extends means the one shipped."""
    reference = tree.get("extends")
    if not isinstance(reference, str):
        return None
    at = tree.values_at["extends"]
    found = find(reference, path.parent if "/" in reference else base)
    if found is not None and found.resolve() in above and reference in known_profiles():
        found = find(reference, None)
    if found is None:
        problems.error(at, f"`{reference}` is no profile", hint=nearest(reference, known_profiles(base)))
        return None
    if found.resolve() in above or len(above) > _DEPTH:
        problems.error(at, f"`{reference}` extends itself in the end")
        return None
    loaded = read_file(found, base, above)
    if loaded.spec is None:
        problems.error(at, f"`{reference}` cannot be read: {loaded.errors[0]}")
    return loaded


def _unreachable(tree: Mapping, spec: ProfileSpec, unclear: set[str], problems: Collector) -> None:
    """Matchers of this file behind one that takes everything they could fit. Of `unclear` ones nothing is said."""
    written = tree.get("matchers")
    places = (
        {item["id"]: item.at for item in written if isinstance(item, Mapping) and isinstance(item.get("id"), str)}
        if isinstance(written, list)
        else {}
    )
    own = [matcher for matcher in spec.matchers if matcher.id in places and matcher.id not in unclear]
    for index, late in enumerate(own):
        early = next((matcher for matcher in own[:index] if _takes_all(matcher, late)), None)
        if early is not None:
            problems.error(
                places[late.id],
                f"the matcher `{late.id}` is never reached: `{early.id}` before it fits all that it fits",
                hint="put the narrower one first",
            )


def _takes_all(early: MatcherSpec, late: MatcherSpec) -> bool:
    if early.websocket is not late.websocket:
        return False
    conditions = ("query", "headers", "body")
    if any(not set(getattr(early, name)) <= set(getattr(late, name)) for name in conditions):
        return False
    if early.graphql is not None and early.graphql != late.graphql:
        return False
    methods = set(early.methods) | ({"HEAD"} if "GET" in early.methods else set())
    if methods and not (late.methods and set(late.methods) <= methods):
        return False
    wide = [plain_template(path) for path in early.paths or ANYTHING]
    return all(any(covers(one, plain_template(path)) for one in wide) for path in late.paths or ANYTHING)
