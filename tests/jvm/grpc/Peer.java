// gRPC of Java: `serve [CERT KEY]` prints a port and serves until its standard input ends; `call PORT ONE_BY_ONE AT_ONCE [CERT]`
// prints "ready", waits for a line, makes so many unary calls, a streaming one and one that fails, all on one connection, and
// prints how each went. A call's number is its trace ID; what it asks for is how many ms the server sleeps.

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Server;
import io.grpc.ServerCredentials;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import io.grpc.TlsServerCredentials;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;

public class Peer {
    private static final String SERVICE = "farcall.test.Echo";
    private static final MethodDescriptor<String, String> UNARY = method("Unary", MethodType.UNARY);
    private static final MethodDescriptor<String, String> STREAM = method("Stream", MethodType.SERVER_STREAMING);
    private static final MethodDescriptor<String, String> FAIL = method("Fail", MethodType.UNARY);
    private static final Metadata.Key<String> TRACE =
            Metadata.Key.of("traceparent", Metadata.ASCII_STRING_MARSHALLER);

    public static void main(String[] words) throws Exception {
        if (words[0].equals("serve")) {
            serve(words.length == 1
                    ? InsecureServerCredentials.create()
                    : TlsServerCredentials.create(new File(words[1]), new File(words[2])));
        } else {
            ChannelCredentials credentials = words.length == 4
                    ? InsecureChannelCredentials.create()
                    : TlsChannelCredentials.newBuilder().trustManager(new File(words[4])).build();
            call("127.0.0.1:" + words[1], credentials, Integer.parseInt(words[2]), Integer.parseInt(words[3]));
        }
    }

    private static void serve(ServerCredentials credentials) throws Exception {
        Server server = Grpc.newServerBuilderForPort(0, credentials)
                .addService(ServerServiceDefinition.builder(SERVICE)
                        .addMethod(UNARY, ServerCalls.asyncUnaryCall((ms, out) -> answer(ms, out, 1)))
                        .addMethod(STREAM, ServerCalls.asyncServerStreamingCall((ms, out) -> answer(ms, out, 3)))
                        .addMethod(FAIL, ServerCalls.asyncUnaryCall((ms, out) -> out.onError(
                                Status.NOT_FOUND.withDescription("no such thing: é").asRuntimeException())))
                        .build())
                .build()
                .start();
        System.out.println(server.getPort());
        while (System.in.read() >= 0) {
            continue;
        }
        server.shutdownNow().awaitTermination();
    }

    private static void answer(String ms, StreamObserver<String> out, int times) {
        for (int i = 0; i < times; i++) {
            out.onNext(ms);
            try {
                Thread.sleep(Integer.parseInt(ms));
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }
        out.onCompleted();
    }

    private static void call(String target, ChannelCredentials credentials, int oneByOne, int atOnce) throws Exception {
        ManagedChannel channel = Grpc.newChannelBuilder(target, credentials).build();
        System.out.println("ready");
        System.in.read();
        int n = 0;
        while (n < oneByOne) {
            start(channel, UNARY, n++).await();
        }
        CountDownLatch[] waiting = new CountDownLatch[atOnce];
        for (int i = 0; i < atOnce; i++) {
            waiting[i] = start(channel, UNARY, n++);
        }
        for (CountDownLatch one : waiting) {
            one.await();
        }
        start(channel, STREAM, n++).await();
        start(channel, FAIL, n++).await();
        channel.shutdownNow();
    }

    private static CountDownLatch start(Channel channel, MethodDescriptor<String, String> method, int n) {
        Metadata headers = new Metadata();
        headers.put(TRACE, String.format("00-%032x-%016x-01", n + 1, n + 1));
        CountDownLatch left = new CountDownLatch(1);
        long begin = System.nanoTime();
        ClientCall<String, String> call = ClientInterceptors.intercept(
                        channel, MetadataUtils.newAttachHeadersInterceptor(headers))
                .newCall(method, CallOptions.DEFAULT);
        StreamObserver<String> observer = new StreamObserver<>() {
            @Override
            public void onNext(String answer) {}

            @Override
            public void onError(Throwable why) {
                tell(Status.fromThrowable(why));
            }

            @Override
            public void onCompleted() {
                tell(Status.OK);
            }

            private void tell(Status status) {
                double ms = (System.nanoTime() - begin) / 1e6;
                System.out.println(
                        "{\"n\": " + n + ", \"ms\": " + ms + ", \"status\": " + status.getCode().value() + "}");
                left.countDown();
            }
        };
        if (method.getType() == MethodType.UNARY) {
            ClientCalls.asyncUnaryCall(call, String.valueOf(n % 20), observer);
        } else {
            ClientCalls.asyncServerStreamingCall(call, String.valueOf(n % 20), observer);
        }
        return left;
    }

    private static MethodDescriptor<String, String> method(String name, MethodType type) {
        Text text = new Text();
        return MethodDescriptor.<String, String>newBuilder(text, text)
                .setType(type)
                .setFullMethodName(MethodDescriptor.generateFullMethodName(SERVICE, name))
                .build();
    }

    private static final class Text implements MethodDescriptor.Marshaller<String> {
        @Override
        public InputStream stream(String text) {
            return new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8));
        }

        @Override
        public String parse(InputStream stream) {
            try {
                return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
            } catch (IOException e) {
                throw new IllegalStateException(e);
            }
        }
    }
}
