// What Kafka's own client sends: a transaction, and a consumer of each group protocol. One word: the broker's address.

import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

public class Shop {
    private static final String STRINGS = "org.apache.kafka.common.serialization.String";

    public static void main(String[] words) throws Exception {
        Properties producer = new Properties();
        producer.put("bootstrap.servers", words[0]);
        producer.put("client.id", "java-shop");
        producer.put("transactional.id", "checkout");
        producer.put("key.serializer", STRINGS + "Serializer");
        producer.put("value.serializer", STRINGS + "Serializer");
        try (var shop = new KafkaProducer<String, String>(producer)) {
            shop.initTransactions();
            shop.beginTransaction();
            for (int number = 0; number < 3; number++) {
                shop.send(new ProducerRecord<>("orders", "secret key", "secret value " + number)).get();
            }
            shop.commitTransaction();
        }
        consume(words[0], "classic");
        consume(words[0], "consumer");
    }

    private static void consume(String address, String protocol) {
        Properties consumer = new Properties();
        consumer.put("bootstrap.servers", address);
        consumer.put("client.id", "java-billing");
        consumer.put("group.id", "billing-" + protocol);
        consumer.put("group.protocol", protocol);
        consumer.put("auto.offset.reset", "earliest");
        consumer.put("key.deserializer", STRINGS + "Deserializer");
        consumer.put("value.deserializer", STRINGS + "Deserializer");
        try (var billing = new KafkaConsumer<String, String>(consumer)) {
            billing.subscribe(List.of("orders", "payments"));
            for (int read = 0; read < 11; ) {
                read += billing.poll(Duration.ofSeconds(1)).count();
            }
            billing.commitSync();
        }
    }
}
