// SPDX-License-Identifier: Apache-2.0

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.net.UnknownHostException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.Arrays;
import java.util.HexFormat;
import javax.naming.directory.Attribute;
import javax.naming.directory.InitialDirContext;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;

/**
 * A client that does what it is told, as client.c; names are looked up, and remembered, by the JVM.
 *
 * <p>{@code dot SERVER PORT NAME} and {@code doh SERVER PORT NAME} look a name up over TLS and over HTTPS. {@code get URL} asks by java.net.http, and checks no certificate. {@code jndi SERVER NAME} asks the DNS client that the
 * JDK has of its own, over NIO channels.
 */
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

    private static void readUntil(byte[] wanted) throws IOException {
        String sought = new String(wanted, ISO_8859_1);
        StringBuilder have = new StringBuilder();
        byte[] more = new byte[8192];
        while (have.indexOf(sought) < 0) {
            int size = LINKS[current].getInputStream().read(more);
            if (size <= 0) {
                throw new IOException("closed");
            }
            have.append(new String(more, 0, size, ISO_8859_1));
        }
    }

    private static SSLContext trusting() throws Exception {
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, new TrustManager[] {new Trusting()}, null);
        return tls;
    }

    private static byte[] buildQuestion(String name) {
        StringBuilder question = new StringBuilder("\u0012\u0034\1\0\0\1\0\0\0\0\0\0");
        for (String label : name.split("\\.")) {
            question.append((char) label.length()).append(label);
        }
        return question.append("\0\0\1\0\1").toString().getBytes(ISO_8859_1);
    }

    /** The address is the end of our servers' answers. */
    private static void remember(byte[] answer) throws UnknownHostException {
        byte[] address = Arrays.copyOfRange(answer, answer.length - 4, answer.length);
        found = new InetAddress[] {InetAddress.getByAddress(address)};
    }

    private static void resolveOverTls(String server, int port, String name) throws Exception {
        byte[] question = buildQuestion(name);
        try (Socket link = trusting().getSocketFactory().createSocket(server, port)) {
            link.setSoTimeout(WAIT_MS);
            DataOutputStream out = new DataOutputStream(link.getOutputStream());
            out.writeShort(question.length);
            out.write(question);
            out.flush();
            DataInputStream in = new DataInputStream(link.getInputStream());
            byte[] answer = new byte[in.readUnsignedShort()];
            in.readFully(answer);
            remember(answer);
        }
    }

    private static void resolveOverHttps(String server, int port, String name) throws Exception {
        HttpClient client = HttpClient.newBuilder().sslContext(trusting()).version(HttpClient.Version.HTTP_1_1).build();
        HttpRequest request =
                HttpRequest.newBuilder(URI.create("https://" + server + ":" + port + "/dns-query"))
                        .timeout(Duration.ofMillis(WAIT_MS))
                        .POST(HttpRequest.BodyPublishers.ofByteArray(buildQuestion(name)))
                        .build();
        remember(client.send(request, HttpResponse.BodyHandlers.ofByteArray()).body());
    }

    private static void get(String url) throws Exception {
        HttpClient client = HttpClient.newBuilder().sslContext(trusting()).build();
        HttpRequest request =
                HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofMillis(WAIT_MS)).build();
        client.send(request, HttpResponse.BodyHandlers.discarding());
    }

    /** An extended one, so that host names are not checked either. */
    private static final class Trusting extends X509ExtendedTrustManager {
        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) {}

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) {}

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) {}

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) {}

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return new X509Certificate[0];
        }
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
            case "until" -> readUntil(HexFormat.of().parseHex(words[1]));
            case "get" -> get(words[1]);
            case "dot" -> resolveOverTls(words[1], Integer.parseInt(words[2]), words[3]);
            case "doh" -> resolveOverHttps(words[1], Integer.parseInt(words[2]), words[3]);
            case "jndi" -> {
                Attribute answers =
                        new InitialDirContext()
                                .getAttributes("dns://" + words[1] + "/" + words[2], new String[] {"A"})
                                .get("A");
                found = new InetAddress[] {InetAddress.getByName((String) answers.get(0))};
                said.append(" answered");
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
