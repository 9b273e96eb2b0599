// SPDX-License-Identifier: MIT
// program.js - a node program for cases.sh: objects, buffers, compression, worker threads, a child process.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');
const { execFileSync } = require('child_process');

const sum = (data) => crypto.createHash('sha256').update(data).digest('hex').slice(0, 16);

if (!isMainThread) {
  const buffers = [];
  for (let i = 0; i < 200; i++) buffers.push(Buffer.alloc(1000 * (i + 1), i + workerData));
  parentPort.postMessage(sum(Buffer.concat(buffers)));
} else {
  const map = new Map();
  for (let i = 0; i < 200000; i++) map.set(`key${(i * 7919) % 100003}`, { i, text: 'x'.repeat(i % 50) });
  const json = JSON.stringify([...map.entries()].sort((a, b) => (a[0] < b[0] ? -1 : 1)));
  console.log('json', json.length, sum(json), JSON.parse(json).length);
  const packed = zlib.gzipSync(json), plain = zlib.gunzipSync(packed);
  console.log('zlib', plain.length, sum(plain));
  console.log('brotli', zlib.brotliDecompressSync(zlib.brotliCompressSync(plain.subarray(0, 2000000),
    { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } })).length);
  let big = Buffer.alloc(64 << 20, 7);
  console.log('buffer', sum(big));
  big = null;
  console.log('child', execFileSync('sort', { input: 'b\na\n' }).toString().trim().replace('\n', ','));
  const answers = Array.from({ length: 4 }, (_, n) => new Promise((resolve, reject) => {
    new Worker(__filename, { workerData: n }).on('message', resolve).on('error', reject);
  }));
  Promise.all(answers).then((all) => console.log('workers', all.join(' ')));
}
