// SPDX-License-Identifier: MIT
// work.js - for node: buffers and JSON outside of its own heap, objects inside.
const crypto = require('crypto');
const zlib = require('zlib');

const rows = [];
for (let i = 0; i < 60000; i++) rows.push({ key: `key-${(i * 7919) % 5003}`, values: [i, i * 2, 'x'.repeat(i % 50)] });
const text = JSON.stringify(rows);
let kept = [], total = 0;
for (let i = 0; i < 20000; i++) {
  const buffer = Buffer.allocUnsafeSlow(1000 + ((i * 7919) % 20000));
  buffer.fill(i & 255, 0, 1000);
  if (kept.length === 200) kept[i % 200] = buffer;
  else kept.push(buffer);
  total += buffer[10];
}
for (let i = 0; i < 300; i++) total += crypto.createHash('sha256').update(text.slice(i * 100, i * 100 + 5000)).digest()[0];
const packed = zlib.deflateSync(text, { level: 1 });
console.log(JSON.parse(zlib.inflateSync(packed).toString()).length, text.length, total);
