"""What becomes of the records of other libraries: dataclasses, msgspec's, pydantic's."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pydantic
import pytest
from pydantic.dataclasses import dataclass as pydantic_dataclass

from chansock import edn
from chansock.edn import EncodeError, Keyword, StrDict


def written(value: object, **options: Any) -> str:
    return edn.dumps(value, **options).decode()


def refusal(value: object) -> EncodeError:
    with pytest.raises(EncodeError) as caught:
        edn.dumps(value)
    return caught.value


class Role(enum.Enum):
    ADMIN = Keyword("admin")
    GUEST = "guest"


class Level(enum.IntFlag):
    READ = 1
    WRITE = 2


# -- dataclasses --


@dataclasses.dataclass
class User:
    user_id: int
    name: str
    role: Role = Role.GUEST
    _seen: int = 0
    table: ClassVar[str] = "users"
    password: dataclasses.InitVar[str] = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int


@dataclasses.dataclass
class Chain:
    following: Any = None


def test_a_dataclass_is_the_map_of_its_fields_as_asdict_has_them() -> None:
    user = User(1042, "Ada", Role.ADMIN)
    assert written(user) == '{:user_id 1042, :name "Ada", :role :admin, :_seen 0}'
    assert written(user) == written(dataclasses.asdict(user))
    assert written([Point(1, 2), {"at": Point(3, 4)}]) == "[{:x 1, :y 2} {:at {:x 3, :y 4}}]"
    assert written(dataclasses.make_dataclass("Empty", [])()) == "{}"


def test_field_names_are_keywords_whatever_keys_says() -> None:
    assert written({"at": Point(1, 2)}, keys="string") == '{"at" {:x 1, :y 2}}'
    assert written(StrDict({"at": Point(1, 2)})) == '{"at" {:x 1, :y 2}}'


def test_a_record_can_be_a_key_and_a_member() -> None:
    assert written({Point(1, 2): "here"}) == '{{:x 1, :y 2} "here"}'
    assert written({Point(1, 2)}) == "#{{:x 1, :y 2}}"
    other = dataclasses.make_dataclass("Point", ["x", "y"], frozen=True)
    assert "got {:x 1, :y 2} again" in str(refusal({Point(1, 2), other(1, 2)}))
    assert "got {:x 1, :y 2} again" in str(refusal({Point(1, 2): 0, other(1, 2): 0}))


def test_an_unset_field_is_refused_by_name() -> None:
    user = User(1, "Ada")
    del user.name
    assert "expected a value in each field, got a User without 'name' at [\"who\"]" in str(
        refusal({"who": user})
    )


def test_paths_lead_through_records() -> None:
    assert refusal([Chain(Chain([0, 1j]))]).path == '[0]["following"]["following"][1]'


def test_a_record_that_holds_itself_is_too_deep() -> None:
    chain = Chain()
    chain.following = chain
    assert "at most 500 forms" in str(refusal(chain))


def test_a_class_is_no_record() -> None:
    assert "class" in str(refusal(Point))
    assert "class" in str(refusal(msgspec.Struct))


# -- msgspec --


class Order(msgspec.Struct, rename="kebab", tag="order"):
    order_id: int
    line_count: int = 1
    note: str | msgspec.UnsetType = msgspec.UNSET


class Place(msgspec.Struct, array_like=True, omit_defaults=True):
    x: int = 0
    y: int = 0


def test_a_struct_has_the_names_and_the_tag_that_msgspec_encodes() -> None:
    order = Order(7)
    assert written(order) == '{:type "order", :order-id 7, :line-count 1}'
    assert written(order) == written(msgspec.to_builtins(order))
    assert written(Order(7, note="now")).endswith(':note "now"}')
    assert msgspec.convert(edn.loads(edn.dumps(order)), Order) == order


def test_a_struct_is_a_map_of_all_fields_however_msgspec_packs_it() -> None:
    assert written(Place(0, 2)) == "{:x 0, :y 2}"


def test_unset_is_refused_where_it_is_no_field_of_a_struct() -> None:
    assert "UNSET" in str(refusal([msgspec.UNSET]))


# -- pydantic --


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    user_id: int
    name: str = pydantic.Field("Ada", alias="userName")
    joined: datetime | None = None
    secret: str = pydantic.Field("x", exclude=True)
    _cache: int = pydantic.PrivateAttr(0)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"{self.name}#{self.user_id}"


class Numbers(pydantic.RootModel[list[int]]):
    pass


@pydantic_dataclass
class Checked:
    x: int


def test_a_model_is_the_map_that_model_dump_gives() -> None:
    joined = datetime(2024, 5, 6, tzinfo=UTC)
    model = Model(user_id="7", joined=joined, role=Role.ADMIN)  # type: ignore[arg-type, call-arg]
    assert written(model) == (
        '{:user_id 7, :name "Ada", :joined #inst "2024-05-06T00:00:00.000-00:00", '
        ':role :admin, :label "Ada#7"}'
    )
    assert written(model) == written(model.model_dump())
    assert written([Numbers([1, 2])]) == "[[1 2]]"
    assert written(Checked(x="3")) == "{:x 3}"  # type: ignore[arg-type]


def test_a_model_without_some_fields_is_written_without_them() -> None:
    class Bare(pydantic.BaseModel):
        a: int
        b: int

    assert written(Bare.model_construct(b=2)) == "{:b 2}"


# -- Enum, subclasses --


def test_an_enum_is_its_value_wherever_it_stands() -> None:
    assert written([Role.ADMIN, Role.GUEST, Level.READ | Level.WRITE]) == '[:admin "guest" 3]'
    assert written({Role.ADMIN: Role.GUEST}) == '{:admin "guest"}'


def test_subclasses_are_written_as_their_base() -> None:
    class Id(UUID):
        pass

    class Moment(datetime):
        pass

    class Pair(tuple[int, ...]):
        pass

    class Many(list[int]):
        pass

    class Table(dict[str, int]):
        pass

    class Scores(StrDict[str, int]):
        pass

    class Real(float):
        pass

    text = "0b2c9a5e-0000-4000-8000-000000000001"
    assert written([Id(text), Real(1.5), Pair((1,)), Many([2])]) == f'[#uuid "{text}" 1.5 [1] [2]]'
    assert written(Moment(2024, 5, 6, tzinfo=UTC)) == '#inst "2024-05-06T00:00:00.000-00:00"'
    assert written([Table(a=1), Scores({"a b": 1})]) == '[{:a 1} {"a b" 1}]'


# -- what others pay --


@pytest.mark.slow
def test_neither_library_is_imported_for_those_who_do_not_use_it() -> None:
    program = (
        "import sys\n"
        "from chansock import edn\n"
        "edn.dumps([1, {'a': 2.5}, edn.Keyword('k')])\n"
        "try: edn.dumps(object())\n"
        "except edn.EncodeError: pass\n"
        "print([name for name in ('msgspec', 'pydantic') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout.strip() == b"[]"


@pytest.mark.slow
def test_many_classes_pass_through_the_bounded_table() -> None:
    for n in range(600):
        kind = dataclasses.make_dataclass(f"Kind{n}", [f"field{n % 3}"])
        assert written(kind(n)) == f"{{:field{n % 3} {n}}}"
    assert written(Point(1, 2)) == "{:x 1, :y 2}"
