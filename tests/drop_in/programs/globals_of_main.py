"""Functions of one program share its globals in a worker, from task to task, as they do in one process."""

from multiprocessing import Pool

FACTOR = 3
remembered: list[int] = []
visits = 0


def remember(number: int) -> int:
    global visits
    visits += 1
    remembered.append(number * FACTOR)
    return visits


def recall() -> list[int]:
    return remembered


if __name__ == "__main__":
    with Pool(1) as pool:
        print([pool.apply(remember, (number,)) for number in (1, 2, 3)])
        print(pool.map(remember, [4, 5]))
        print(pool.apply(recall))
    print("nothing of it here:", visits, remembered)
