# SPDX-License-Identifier: MIT
"""work.py - for python3: objects, dictionaries, strings and lists that come and go."""
import json


class Node:
    def __init__(self, key, left, right):
        self.key, self.left, self.right = key, left, right


def tree(depth, key):
    return Node(key, tree(depth - 1, 2 * key), tree(depth - 1, 2 * key + 1)) if depth else Node(key, None, None)


def total(node):
    return node.key + total(node.left) + total(node.right) if node.left else node.key


result = [sum(total(tree(12, i)) for i in range(1, 9))]
words = {}
for i in range(60000):
    words.setdefault(f"word-{i * 7919 % 5003}", []).append(str(i) * (i % 5))
rows = [{"name": name, "values": values, "size": sum(map(len, values))} for name, values in sorted(words.items())]
text = json.dumps(rows)
result += [len(text), sum(row["size"] for row in json.loads(text)), len("".join(sorted(text.split(" "))))]
print(*result)
