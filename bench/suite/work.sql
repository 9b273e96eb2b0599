-- SPDX-License-Identifier: MIT
-- work.sql - for sqlite3, in memory: a table with an index, sorts, groups, a join, deletes.
PRAGMA temp_store = MEMORY;
CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, body TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80000)
  INSERT INTO t SELECT i, (i * 7919) % 50021, printf('%0*d', 20 + i % 200, i) FROM n;
SELECT count(*), sum(length(body)), sum(k) FROM t;
CREATE INDEX t_k ON t (k);
SELECT id, k, substr(body, -5) FROM t ORDER BY body DESC LIMIT 3;
SELECT k % 10, count(*), max(body) FROM t GROUP BY k % 10 ORDER BY 1;
SELECT count(*) FROM t a JOIN t b ON a.k = b.k WHERE a.id < b.id;
SELECT length(group_concat(body)) FROM t;
DELETE FROM t WHERE id % 2 = 0;
SELECT count(*), sum(k) FROM t;
