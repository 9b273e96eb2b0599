# SPDX-License-Identifier: MIT
# cases.sh - the real programs of run.sh. For each NAME: needs_NAME lists the commands it needs, prepare_NAME (optional) makes
# what it works on, without hakmem, and case_NAME does the work in an empty directory and prints the same text every time.
# $SRC is the source tree, $PREPARED what prepare_NAME made, $PORT a TCP port of its own.

CASES="shell perl python php sqlite redis git cc cxx node java rust"

needs_shell="bash sort shuf awk sed find xargs sha256sum"
case_shell() {
  seq 1 200000 | shuf --random-source=<(yes 42) >numbers
  sort -n numbers | uniq | sha256sum
  sort -S 64M -R --random-source=<(yes 7) numbers | sort -n --parallel=2 | tail -n 1
  awk '{ sum += $1; seen[$1 % 977] = seen[$1 % 977] $1 } END { print sum, length(seen[5]) }' numbers
  sed -E 's/([0-9])([0-9])/\2-\1/g' numbers | tr '0-9' 'a-j' | grep -cE 'a.*b|j$'
  split -l 5000 numbers part. && find . -name 'part.*' -print0 | sort -z | xargs -0 -n 5 cat | sha256sum
  local i text=
  for ((i = 0; i < 20000; i++)); do text+=$i,; done
  echo "${#text} ${text//,/}" | sha256sum
  declare -A map
  for ((i = 0; i < 5000; i++)); do map[$i]=$((i * i)); done
  echo "${#map[@]} ${map[4999]} $(printf '%s\n' "${map[@]}" | sort -n | tail -n 1)"
}

needs_perl="perl"
case_perl() {
  PERL_HASH_SEED=0 perl -e '
    use strict; use warnings;
    my (%count, @rows);
    for my $i (1 .. 300000) { my $k = ($i * 7919) % 10007; $count{$k} .= chr(97 + $i % 26); push @rows, [$k, "x" x ($i % 97)]; }
    my @sorted = sort { $a->[0] <=> $b->[0] || length($a->[1]) <=> length($b->[1]) } @rows;
    my $text = join ",", map { "$_->[0]:" . length($_->[1]) } @sorted;
    (my $other = $text) =~ s/(\d+):(\d+)/$2-$1/g;
    print scalar(keys %count), " ", length($text), " ", length($other), " ", unpack("%32C*", $other), "\n";
    my $big = "abc" x 20_000_000; print length($big), " ", ($big =~ tr/b//), "\n";
    my $pid = open(my $child, "-|") // die;
    if (!$pid) { print "child ", scalar(@{[(1) x 100000]}), "\n"; exit 0 } print <$child>;'
}

needs_python="/usr/bin/python3"
case_python() {
  local modules="test_json test_dict test_list test_re test_threading test_subprocess"
  # shellcheck disable=SC2086
  /usr/bin/python3 -m test $modules >log 2>&1
  local status=$?
  grep -E '^(All [0-9]+ tests? OK|.* tests? failed|Tests result|    test_)' log
  [ $status -eq 0 ] || tail -n 60 log
  return $status
}
ready_python() { /usr/bin/python3 -c 'import test.test_json' 2>/dev/null || echo "no package libpython3-testsuite"; }

# PHP loads its extensions with RTLD_DEEPBIND. Without its own allocator every value is a block.
needs_php="php"
case_php() {
  cat >work.php <<'PHP'
<?php
$rows = [];
for ($i = 0; $i < 100000; $i++) { $rows["k$i"] = ["id" => $i, "text" => str_repeat("x", $i % 40), "pair" => [$i, $i + 1]]; }
uasort($rows, function ($a, $b) { return [strlen($a["text"]), $a["id"]] <=> [strlen($b["text"]), $b["id"]]; });
$again = json_decode(json_encode($rows), true);
$length = 0;
foreach ($again as $key => $row) { $length += strlen(preg_replace("/x+/", "y", $row["text"]) . strtoupper($key)); }
echo count($again), " ", $length, " ", md5(serialize($again)), "\n";
echo ctype_alnum("abc1") ? "ctype" : "", " ", iconv("UTF-8", "ISO-8859-1//TRANSLIT", "hakmem"), " ", count(token_get_all("<?php echo 1;")), "\n";
PHP
  php -d memory_limit=-1 work.php && USE_ZEND_ALLOC=0 php -d memory_limit=-1 work.php
}

needs_sqlite="sqlite3"
case_sqlite() {
  sqlite3 table.db <<'SQL'
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -65536;
CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, body TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
  INSERT INTO t SELECT i, (i * 7919) % 100003, printf('%0500d', i) FROM n;
SELECT count(*), sum(length(body)), sum(k) FROM t;
CREATE INDEX t_k ON t (k);
SELECT id, k FROM t ORDER BY k DESC, id LIMIT 5;
SELECT k % 10, count(*), max(body) FROM t GROUP BY k % 10 ORDER BY 1;
SELECT count(*) FROM t a JOIN t b ON a.k = b.k WHERE a.id < b.id;
SELECT length(group_concat(k)) FROM t;
DELETE FROM t WHERE id % 2 = 0;
VACUUM;
PRAGMA integrity_check;
SELECT count(*), sum(k) FROM t;
SQL
}

needs_redis="redis-server redis-cli redis-benchmark"
case_redis() {
  redis-server --port "$PORT" --bind 127.0.0.1 --save '' --appendonly no --dir . --enable-debug-command local >server.log 2>&1 &
  local server=$! i
  for ((i = 0; i < 100; i++)); do
    [ "$(redis-cli -p "$PORT" ping 2>/dev/null)" = PONG ] && break
    sleep 0.1
  done
  awk 'BEGIN { for (i = 0; i < 100000; i++) printf "SET key:%d value-%d-%0*d\r\n", i, i, i % 300, i }' |
    redis-cli -p "$PORT" --pipe | tail -n 1
  redis-benchmark -p "$PORT" -t set,get,lpush -n 100000 -c 20 -q | grep -oE '(SET|GET|LPUSH): [0-9.]+' | sed 's/:.*//' | sort -u
  redis-cli -p "$PORT" dbsize
  redis-cli -p "$PORT" llen mylist
  redis-cli -p "$PORT" get key:77777 | sha256sum
  redis-cli -p "$PORT" debug digest
  redis-cli -p "$PORT" debug reload
  redis-cli -p "$PORT" bgsave >/dev/null
  for ((i = 0; i < 200; i++)); do
    redis-cli -p "$PORT" info persistence | grep -q 'rdb_bgsave_in_progress:0' && break
    sleep 0.1
  done
  redis-cli -p "$PORT" info persistence | grep -o 'rdb_last_bgsave_status:ok'
  redis-cli -p "$PORT" flushall
  redis-cli -p "$PORT" shutdown nosave
  wait "$server"
  echo "server $?"
}

needs_git="git"
prepare_git() { # a copy, so that all runs see the same history; outside a repository one is made of the sources
  if git -c safe.directory='*' -C "$SRC" rev-parse -q --verify HEAD >/dev/null 2>&1; then
    git -c safe.directory='*' clone -q --bare --no-local "$SRC" "$PREPARED/history"
  else
    mkdir "$PREPARED/tree"
    cd "$PREPARED/tree" || return
    git init -q .
    for part in include core plugins tests; do
      cp -R "$SRC/$part" . && git add . && git -c user.name=test -c user.email=test@localhost commit -q -m "$part"
    done
    git clone -q --bare . "$PREPARED/history"
  fi
}
case_git() {
  export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
  git clone -q --no-local "$PREPARED/history" copy && cd copy || return
  git log -p --stat -M | sha256sum
  git ls-files -s | sha256sum
  git fsck --full 2>&1 | grep -v '^Checking'
  git gc -q --aggressive 2>/dev/null
  git rev-list --all --objects | sort | sha256sum
  git grep -c malloc | sort | sha256sum
}

needs_cc="gcc"
case_cc() {
  local source
  for source in "$SRC"/tests/*.c "$SRC"/doc/template_*.c; do
    case ${source##*/} in test_*) continue ;; esac # unit tests need other libraries
    gcc -O2 -g "-fdebug-prefix-map=$PWD=." -w -D_GNU_SOURCE -I"$SRC/include" -I"$SRC/core" -I"$SRC/tests" -I"$SRC/plugins/policy" -c -o out.o "$source" || return
    sha256sum <out.o
  done
  for source in "$SRC"/core/{pagemap,span,starts,route,message}.c; do
    [ -e "$source" ] && gcc -O3 -std=gnu11 -w -I"$SRC/include" -I"$SRC/core" -S -o - "$source" | sha256sum
  done
}

needs_cxx="g++"
case_cxx() {
  g++ -O2 -std=c++20 -pthread -I"$SRC/include" -o program "$SRC/tests/programs/program.cpp" && sha256sum <program && ./program
}

needs_node="node"
case_node() { node "$SRC/tests/programs/program.js"; }

needs_java="java javac"
case_java() {
  javac -d . "$SRC/tests/programs/Program.java" && java -Xmx256m -XX:ReservedCodeCacheSize=64m -cp . Program
}

needs_rust="rustc"
prepare_rust() { rustc -O --edition 2021 -o "$PREPARED/rust" "$SRC/tests/programs/program.rs"; }
case_rust() { "$PREPARED/rust"; }
