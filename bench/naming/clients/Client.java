// SPDX-License-Identifier: Apache-2.0

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.UnknownHostException;
import java.util.HexFormat;

/** A client that does what it is told, as client.c; names are looked up, and remembered, by the JVM. */
public final class Client {
    private static final int WAIT_MS = 5_000;
    private static InetAddress[] found = {};
    private static final Socket[] LINKS = new Socket[4];
    private static int current;
    private static StringBuilder said = new StringBuilder();

    private static InetAddress address(String text) throws UnknownHostException {
        if (!text.startsWith("@")) {
            return InetAddress.getByName(text);
        }
        if (text.equals("@last")) {
            return found[found.length - 1];
        }
        for (InetAddress one : found) {
            if (text.equals("@") || one instanceof Inet4Address == text.equals("@4")) {
                return one;
            }
        }
        throw new UnknownHostException(text);
    }

    private static void takeStep(String[] words) throws Exception {
        switch (words[0]) {
            case "resolve" -> {
                try {
                    found = InetAddress.getAllByName(words[1]);
                    said.append(" resolved");
                } catch (UnknownHostException e) {
                    said.append(" unresolved");
                }
            }
            case "connect" -> {
                LINKS[current] = new Socket();
                LINKS[current].setSoTimeout(WAIT_MS);
                LINKS[current].connect(
                        new InetSocketAddress(address(words[1]), Integer.parseInt(words[2])), WAIT_MS);
            }
            case "use" -> current = Integer.parseInt(words[1]);
            case "send" -> LINKS[current].getOutputStream().write(HexFormat.of().parseHex(words[1]));
            case "read" -> {
                if (LINKS[current].getInputStream().read(new byte[8192]) <= 0) {
                    throw new IllegalStateException("closed");
                }
            }
            case "close" -> LINKS[current].close();
            case "sleep" -> Thread.sleep(Long.parseLong(words[1]));
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            said = new StringBuilder();
            String result = "ok";
            for (String step : line.split(";")) {
                try {
                    takeStep(step.trim().split(" +"));
                } catch (Exception e) {
                    result = "failed";
                    break;
                }
            }
            System.out.println(result + said);
        }
    }
}
