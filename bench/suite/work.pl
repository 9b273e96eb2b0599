# SPDX-License-Identifier: MIT
# work.pl - for perl: hashes of strings, a sort of records, joins and substitutions.
use strict;
use warnings;

my (%text, @rows);
for my $i (1 .. 50000) {
  my $key = "key-" . ($i * 7919) % 5003;
  $text{$key} .= chr(97 + $i % 26) x ($i % 7);
  push @rows, [$key, "x" x ($i % 97), { number => $i }];
}
my @sorted = sort { $a->[0] cmp $b->[0] || $a->[2]{number} <=> $b->[2]{number} } @rows;
my $all = join ",", map { "$_->[0]:" . length($_->[1]) } @sorted;
(my $other = $all) =~ s/(\d+):(\d+)/$2-$1/g;
my $sum = 0;
$sum += length($text{$_}) for keys %text;
print scalar(keys %text), " ", length($all), " ", unpack("%32C*", $other), " ", $sum, "\n";
