"""Classes of the program itself as arguments, results and errors; a method of an object that owns the pool."""

import dataclasses
import enum
from multiprocessing import Pool
from typing import Any, NamedTuple


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Shape:
    colour: Colour
    corners: list[Point]

    def moved(self, by: int) -> "Shape":
        return Shape(self.colour, [Point(corner.x + by, corner.y + by) for corner in self.corners])


class TooFarError(Exception):
    """An error with its own shape, which knows how to be pickled."""

    def __init__(self, shape: Shape, by: int) -> None:
        super().__init__(shape, by)
        self.shape = shape
        self.by = by

    def __str__(self) -> str:
        return f"{self.by} is too far for {self.shape.colour.name}"


class Mover:
    """Sends its own method to the pool that it keeps, and therefore stays behind when pickled."""

    def __init__(self, pool: Any, by: int) -> None:
        self.pool = pool
        self.by = by

    def __getstate__(self) -> dict[str, Any]:
        return {"by": self.by}

    def move(self, shape: Shape) -> Shape:
        if self.by > 100:
            raise TooFarError(shape, self.by)
        return shape.moved(self.by)

    def move_all(self, shapes: list[Shape]) -> list[Shape]:
        moved: list[Shape] = self.pool.map(self.move, shapes)
        return moved


def colour_of(shape: Shape) -> Colour:
    assert type(shape) is Shape
    return shape.colour


if __name__ == "__main__":
    shapes = [Shape(Colour.RED, [Point(0, 0), Point(0, 1)]), Shape(Colour.GREEN, [Point(5, 5)])]
    with Pool(2) as pool:
        moved = Mover(pool, 10).move_all(shapes)
        print(moved)
        print("our own class again:", all(type(shape) is Shape for shape in moved))
        print("our own points again:", all(type(corner) is Point for shape in moved for corner in shape.corners))
        print("our own colours again:", [colour is Colour(colour.value) for colour in pool.map(colour_of, shapes)])
        print("a method of an argument:", pool.starmap(Shape.moved, [(shape, -1) for shape in shapes]))
        try:
            Mover(pool, 1000).move_all(shapes[:1])
        except TooFarError as error:
            print("refused:", error, "/", error.by, "/", error.shape == shapes[0])
