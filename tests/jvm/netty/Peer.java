// HTTPS of Netty with its BoringSSL: `serve CERT KEY` prints a port; `ask CERT PORT CONNECTIONS EACH` opens its connections at once
// and asks one request after another on each. Both wait for a line of standard input, so that their library can be found first.

import io.netty.bootstrap.Bootstrap;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.handler.codec.http.DefaultFullHttpRequest;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpMessage;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpClientCodec;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.ssl.OpenSsl;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import io.netty.handler.ssl.SslProvider;
import java.io.File;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

public class Peer {
    private static final byte[] HI = "hi".getBytes(StandardCharsets.US_ASCII);

    public static void main(String[] words) throws Exception {
        OpenSsl.ensureAvailability();
        EventLoopGroup loops = new MultiThreadIoEventLoopGroup(2, NioIoHandler.newFactory());
        if (words[0].equals("serve")) {
            serve(loops, new File(words[1]), new File(words[2]));
        } else {
            System.out.println("ready");
            System.in.read();
            ask(loops, new File(words[1]), Integer.parseInt(words[2]), Integer.parseInt(words[3]), Integer.parseInt(words[4]));
        }
        loops.shutdownGracefully(0, 1, TimeUnit.SECONDS).sync();
    }

    private static void serve(EventLoopGroup loops, File certificate, File key) throws Exception {
        SslContext tls = SslContextBuilder.forServer(certificate, key).sslProvider(SslProvider.OPENSSL).build();
        Channel listener = new ServerBootstrap()
                .group(loops)
                .channel(NioServerSocketChannel.class)
                .childHandler(new Pipeline(tls, 0, null, 0))
                .bind("127.0.0.1", 0)
                .sync()
                .channel();
        System.out.println(((InetSocketAddress) listener.localAddress()).getPort());
        while (System.in.read() >= 0) {
            continue;
        }
    }

    private static void ask(EventLoopGroup loops, File certificate, int port, int connections, int each) throws Exception {
        SslContext tls =
                SslContextBuilder.forClient().sslProvider(SslProvider.OPENSSL).trustManager(certificate).build();
        CountDownLatch left = new CountDownLatch(connections);
        for (int i = 0; i < connections; i++) {
            new Bootstrap()
                    .group(loops)
                    .channel(NioSocketChannel.class)
                    .handler(new Pipeline(tls, port, left, i * each).times(each))
                    .connect("127.0.0.1", port);
        }
        left.await();
    }

    private static final class Pipeline extends ChannelInitializer<SocketChannel> {
        private final SslContext tls;
        private final int port;
        private final CountDownLatch left;
        private final int first;
        private int each;

        Pipeline(SslContext tls, int port, CountDownLatch left, int first) {
            this.tls = tls;
            this.port = port;
            this.left = left;
            this.first = first;
        }

        Pipeline times(int each) {
            this.each = each;
            return this;
        }

        @Override
        protected void initChannel(SocketChannel channel) {
            ChannelHandler wrapping =
                    port == 0 ? tls.newHandler(channel.alloc()) : tls.newHandler(channel.alloc(), "localhost", port);
            channel.pipeline()
                    .addLast(wrapping)
                    .addLast(port == 0 ? new HttpServerCodec() : new HttpClientCodec())
                    .addLast(new HttpObjectAggregator(1 << 20))
                    .addLast(port == 0 ? new Answering() : new Asking(left, first, each));
        }
    }

    private static final class Answering extends SimpleChannelInboundHandler<FullHttpRequest> {
        @Override
        protected void channelRead0(ChannelHandlerContext context, FullHttpRequest request) {
            FullHttpResponse answer = new DefaultFullHttpResponse(
                    HttpVersion.HTTP_1_1, HttpResponseStatus.OK, Unpooled.wrappedBuffer(HI));
            answer.headers().set(HttpHeaderNames.CONTENT_LENGTH, HI.length);
            context.writeAndFlush(answer);
        }
    }

    private static final class Asking extends SimpleChannelInboundHandler<FullHttpResponse> {
        private final CountDownLatch left;
        private final int end;
        private int next;

        Asking(CountDownLatch left, int first, int each) {
            this.left = left;
            this.next = first;
            this.end = first + each;
        }

        // Before the handshake: Netty keeps it until then.
        @Override
        public void channelActive(ChannelHandlerContext context) {
            ask(context);
        }

        @Override
        protected void channelRead0(ChannelHandlerContext context, FullHttpResponse answer) {
            if (next < end) {
                ask(context);
                return;
            }
            context.close();
            left.countDown();
        }

        private void ask(ChannelHandlerContext context) {
            FullHttpMessage request =
                    new DefaultFullHttpRequest(HttpVersion.HTTP_1_1, HttpMethod.GET, "/" + next++, Unpooled.EMPTY_BUFFER);
            request.headers().set(HttpHeaderNames.HOST, "localhost");
            context.writeAndFlush(request);
        }
    }
}
