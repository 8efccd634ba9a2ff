"""The shortest pool there is: square three numbers in five processes."""

from multiprocessing import Pool


def square(number: int) -> int:
    return number * number


if __name__ == "__main__":
    with Pool(5) as pool:
        print(pool.map(square, [1, 2, 3]))
