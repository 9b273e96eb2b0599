// SPDX-License-Identifier: MIT
// Program.java - a Java program for cases.sh: the heap is the machine's own, but threads, direct buffers, compression and the
// machine itself use malloc.
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

public class Program {
    static long work(int seed) throws Exception {
        TreeMap<Integer, String> map = new TreeMap<>();
        for (int i = 0; i < 20000; i++) {
            map.put((i * 7919 + seed) % 10007, "x".repeat(i % 100));
        }
        long sum = 0;
        for (var entry : map.entrySet()) {
            sum += entry.getKey() + entry.getValue().length();
        }
        for (int i = 1; i <= 50; i++) {
            ByteBuffer direct = ByteBuffer.allocateDirect(i * 20000);
            direct.put(i, (byte) i);
            sum += direct.get(i);
        }
        byte[] data = new byte[300000], packed = new byte[400000], plain = new byte[300000];
        for (int i = 0; i < data.length; i++) {
            data[i] = (byte) (i * seed >> 5);
        }
        Deflater deflater = new Deflater();
        deflater.setInput(data);
        deflater.finish();
        int length = deflater.deflate(packed);
        deflater.end();
        Inflater inflater = new Inflater();
        inflater.setInput(packed, 0, length);
        sum += inflater.inflate(plain);
        inflater.end();
        CRC32 crc = new CRC32();
        crc.update(plain);
        return sum + crc.getValue();
    }

    public static void main(String[] args) throws Exception {
        long[] sums = new long[8];
        List<Thread> threads = new ArrayList<>();
        for (int t = 0; t < sums.length; t++) {
            final int seed = t + 3;
            Thread thread = new Thread(() -> {
                try {
                    sums[seed - 3] = work(seed);
                } catch (Exception e) {
                    throw new RuntimeException(e);
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (int t = 0; t < sums.length; t++) {
            threads.get(t).join();
            System.out.println("thread " + t + " " + sums[t]);
        }
        Process child = new ProcessBuilder("echo", "child").inheritIO().start();
        System.out.println("exit " + child.waitFor());
    }
}
