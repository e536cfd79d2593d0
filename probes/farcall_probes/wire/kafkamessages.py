"""What of Kafka's messages is read: the fields up to the last that says something, from Apache Kafka 4.3's own definitions.

One line for each API: its key, name, versions, the first flexible version (KIP-482), then the body of request and response:

    4          so many bytes            s  string: its length in 2 bytes      b  bytes: in 4; flexible: a varint, plus one
    [ … ]      array of structures      ( … )  array of plain values          { … }  one structure
    @3+ @0-12  in these versions only   :topic :id :group :acks :error  what is kept     .  what follows is not read

A tagged field is never among them. The definitions: `common/message/*.json` in kafka-clients' jar; clients/src/main/resources in
https://github.com/apache/kafka. Versions outside of those that 4.3 knows are named, and their bodies left unread.
"""

MESSAGES = """
0 Produce 3-13 9 | s 2:acks 4 [ s:topic@0-12 16:id@13+ [ 4 b ] ] | [ s@0-12 16@13+ [ 4 2:error 8 8 8@5+ [@8+ 4@8+ s@8+ ] s@8+ ] ]
1 Fetch 4-18 12 | 4@0-14 4 4 4 1 4@7+ 4@7+ [ s:topic@0-12 16:id@13+ [ 4 4@9+ 8 4@12+ 8@5+ 4 ] ] [@7+ s:topic@7-12 16:id@13+ (@7+ 4 ) ] | 4 2:error@7+ 4@7+ [ s@0-12 16@13+ [ 4 2:error 8 8 8@5+ [ 8 8 ] 4@11+ b ] ]
2 ListOffsets 1-11 6 | 4 1@2+ [ s:topic [ 4 4@4+ 8 ] ] | 4@2+ [ s [ 4 2:error 8 8 4@4+ ] ]
3 Metadata 0-13 9 | [ 16:id@10+ s:topic ] | 4@3+ [ 4 s 4 s@1+ ] s@2+ 4@1+ [ 2:error s:topic 16:id@10+ 1@1+ [ 2:error 4 4 4@7+ ( 4 ) ( 4 ) (@5+ 4 ) ] 4@8+ ] 4@8-10 2:error@13+
4 LeaderAndIsr - - | |
5 StopReplica - - | |
6 UpdateMetadata - - | |
7 ControlledShutdown - - | |
8 OffsetCommit 2-10 8 | s:group 4 s s@7+ 8@0-4 [ s:topic@0-9 16:id@10+ [ 4 8 4@6+ s ] ] | 4@3+ [ s@0-9 16@10+ [ 4 2:error ] ]
9 OffsetFetch 1-10 6 | s:group@0-7 [@0-7 s:topic@0-7 (@0-7 4 ) ] [@8+ s:group@8+ s@9+ 4@9+ [@8+ s:topic@8-9 16:id@10+ (@8+ 4 ) ] ] | 4@3+ [@0-7 s@0-7 [@0-7 4@0-7 8@0-7 4@5-7 s@0-7 2:error@0-7 ] ] 2:error@2-7 [@8+ s@8+ [@8+ s@8-9 16@10+ [@8+ 4@8+ 8@8+ 4@8+ s@8+ 2:error@8+ ] ] 2:error@8+ ]
10 FindCoordinator 0-6 3 | | 4@1+ 2:error@0-3 s@1-3 4@0-3 s@0-3 4@0-3 [@4+ s@4+ 4@4+ s@4+ 4@4+ 2:error@4+ s@4+ ]
11 JoinGroup 0-9 6 | s:group | 4@2+ 2:error
12 Heartbeat 0-4 4 | s:group | 4@1+ 2:error
13 LeaveGroup 0-5 4 | s:group | 4@1+ 2:error [@3+ s@3+ s@3+ 2:error@3+ ]
14 SyncGroup 0-5 4 | s:group | 4@1+ 2:error
15 DescribeGroups 0-6 5 | ( s:group ) | 4@1+ [ 2:error s@6+ s s s s [ s s@4+ s s b b ] 4@3+ ]
16 ListGroups 0-5 3 | | 4@1+ 2:error
17 SaslHandshake 0-1 - | | 2:error
18 ApiVersions 0-4 3 | | 2:error
19 CreateTopics 2-7 5 | [ s:topic 4 2 [ 4 ( 4 ) ] [ s s ] ] | 4 [ s:topic 16:id@7+ 2:error s 4@5+ 2@5+ [@5+ s@5+ s@5+ 1@5+ 1@5+ 1@5+ ] ]
20 DeleteTopics 1-6 4 | [@6+ s:topic@6+ 16:id@6+ ] (@0-5 s:topic ) | 4 [ s 16@6+ 2:error s@5+ ]
21 DeleteRecords 0-2 2 | [ s:topic [ 4 8 ] ] | 4 [ s [ 4 8 2:error ] ]
22 InitProducerId 0-6 2 | | 4 2:error
23 OffsetForLeaderEpoch 2-4 4 | 4@3+ [ s:topic [ 4 4 4 ] ] | 4 [ s [ 2:error 4 4 8 ] ]
24 AddPartitionsToTxn 0-5 3 | [@4+ s@4+ 8@4+ 2@4+ 1@4+ [@4+ s:topic ( 4 ) ] ] s@0-3 8@0-3 2@0-3 [@0-3 s:topic ( 4 ) ] | 4 2:error@4+ [@4+ s@4+ [@4+ s [ 4 2:error ] ] ] [@0-3 s [ 4 2:error ] ]
25 AddOffsetsToTxn 0-4 3 | s 8 2 s:group | 4 2:error
26 EndTxn 0-5 3 | | 4 2:error
27 WriteTxnMarkers 1-2 1 | [ 8 2 1 [ s:topic ( 4 ) ] 4 1@2+ ] | [ 8 [ s [ 4 2:error ] ] ]
28 TxnOffsetCommit 0-5 3 | s s:group 8 2 4@3+ s@3+ s@3+ [ s:topic [ 4 8 4@2+ s ] ] | 4 [ s [ 4 2:error ] ]
29 DescribeAcls 1-3 2 | | 4 2:error
30 CreateAcls 1-3 2 | | 4 [ 2:error s ]
31 DeleteAcls 1-3 2 | | 4 [ 2:error s [ 2:error s 1 s 1 s s 1 1 ] ]
32 DescribeConfigs 1-4 4 | | 4 [ 2:error s 1 s [ s s 1 1 1 [ s s 1 ] 1@3+ s@3+ ] ]
33 AlterConfigs 0-2 2 | | 4 [ 2:error s 1 s ]
34 AlterReplicaLogDirs 1-2 2 | [ s [ s:topic ( 4 ) ] ] | 4 [ s [ 4 2:error ] ]
35 DescribeLogDirs 1-5 2 | [ s:topic ( 4 ) ] | 4 2:error@3+ [ 2:error s [ s [ 4 8 8 1 ] ] 8@4+ 8@4+ 1@5+ ]
36 SaslAuthenticate 0-2 2 | | 2:error
37 CreatePartitions 0-3 2 | [ s:topic 4 [ ( 4 ) ] ] | 4 [ s 2:error s ]
38 CreateDelegationToken 1-3 2 | | 2:error
39 RenewDelegationToken 1-2 2 | | 2:error
40 ExpireDelegationToken 1-2 2 | | 2:error
41 DescribeDelegationToken 1-3 2 | | 2:error
42 DeleteGroups 0-2 2 | ( s:group ) | 4 [ s 2:error ]
43 ElectLeaders 0-2 2 | 1@1+ [ s:topic ( 4 ) ] | 4 2:error@1+ [ s [ 4 2:error s ] ]
44 IncrementalAlterConfigs 0-1 1 | | 4 [ 2:error s 1 s ]
45 AlterPartitionReassignments 0-1 0 | 4 1@1+ [ s:topic [ 4 ( 4 ) ] ] | 4 1@1+ 2:error s [ s [ 4 2:error s ] ]
46 ListPartitionReassignments 0-0 0 | 4 [ s:topic ( 4 ) ] | 4 2:error
47 OffsetDelete 0-0 - | s:group [ s:topic [ 4 ] ] | 2:error 4 [ s [ 4 2:error ] ]
48 DescribeClientQuotas 0-1 1 | | 4 2:error
49 AlterClientQuotas 0-1 1 | | 4 [ 2:error s [ s s ] ]
50 DescribeUserScramCredentials 0-0 0 | | 4 2:error s [ s 2:error s [ 1 4 ] ]
51 AlterUserScramCredentials 0-0 0 | | 4 [ s 2:error s ]
52 Vote 0-2 0 | s 4@1+ [ s:topic [ 4 4 4 16@1+ 16@1+ 4 8 1@2+ ] ] | 2:error [ s [ 4 2:error 4 4 1 ] ]
53 BeginQuorumEpoch 0-1 1 | s 4@1+ [ s:topic [ 4 16@1+ 4 4 ] ] | 2:error [ s [ 4 2:error 4 4 ] ]
54 EndQuorumEpoch 0-1 1 | s [ s:topic [ 4 4 4 (@0-0 4 ) [@1+ 4@1+ 16@1+ ] ] ] | 2:error [ s [ 4 2:error 4 4 ] ]
55 DescribeQuorum 0-2 0 | [ s:topic [ 4 ] ] | 2:error s@2+ [ s [ 4 2:error s@2+ 4 4 8 [ 4 16@2+ 8 8@1+ 8@1+ ] [ 4 16@2+ 8 8@1+ 8@1+ ] ] ]
56 AlterPartition 2-3 0 | 4 8 [ 16:id [ 4 4 (@0-2 4 ) [@3+ 4@3+ 8@3+ ] 1 4 ] ] | 4 2:error [ 16 [ 4 2:error 4 4 ( 4 ) 1 4 ] ]
57 UpdateFeatures 0-2 0 | | 4 2:error s [@0-1 s 2:error s ]
58 Envelope 0-0 0 | | b 2:error
59 FetchSnapshot 0-1 0 | 4 4 [ s:topic [ 4 4 { 8 4 } 8 ] ] | 4 2:error [ s [ 4 2:error { 8 4 } 8 8 b ] ]
60 DescribeCluster 0-2 0 | | 4 2:error
61 DescribeProducers 0-0 0 | [ s:topic ( 4 ) ] | 4 [ s [ 4 2:error s [ 8 4 4 8 4 8 ] ] ]
62 BrokerRegistration 0-4 0 | | 4 2:error
63 BrokerHeartbeat 0-2 0 | | 4 2:error
64 UnregisterBroker 0-0 0 | | 4 2:error
65 DescribeTransactions 0-0 0 | | 4 [ 2:error s s 4 8 8 2 [ s ( 4 ) ] ]
66 ListTransactions 0-2 0 | | 4 2:error
67 AllocateProducerIds 0-0 0 | | 4 2:error
68 ConsumerGroupHeartbeat 0-1 0 | s:group s 4 s s 4 ( s:topic ) s@1+ s [ 16:id ( 4 ) ] | 4 2:error
69 ConsumerGroupDescribe 0-1 0 | ( s:group ) | 4 [ 2:error . ]
70 ControllerRegistration 0-0 0 | | 4 2:error
71 GetTelemetrySubscriptions 0-0 0 | | 4 2:error
72 PushTelemetry 0-0 0 | | 4 2:error
73 AssignReplicasToDirs 0-0 0 | 4 8 [ 16 [ 16:id [ 4 ] ] ] | 4 2:error [ 16 [ 16 [ 4 2:error ] ] ]
74 ListConfigResources 0-1 0 | | 4 2:error
75 DescribeTopicPartitions 0-0 0 | [ s:topic ] | 4 [ 2:error s:topic 16:id 1 [ 2:error 4 4 4 ( 4 ) ( 4 ) ( 4 ) ( 4 ) ( 4 ) ] 4 ]
76 ShareGroupHeartbeat 1-1 0 | s:group s 4 s ( s:topic ) | 4 2:error
77 ShareGroupDescribe 1-1 0 | ( s:group ) | 4 [ 2:error . ]
78 ShareFetch 1-2 0 | s:group s 4 4 4 4 4 4 1@2+ 1@2+ [ 16:id [ 4 [ 8 8 ( 1 ) ] ] ] [ 16:id ( 4 ) ] | 4 2:error s 4 [ 16 [ 4 2:error s 2:error s { 4 4 } b [ 8 8 2 ] ] ]
79 ShareAcknowledge 1-2 0 | s:group s 4 1@2+ [ 16:id [ 4 [ 8 8 ( 1 ) ] ] ] | 4 2:error s 4@2+ [ 16 [ 4 2:error s { 4 4 } ] ]
80 AddRaftVoter 0-1 0 | | 4 2:error
81 RemoveRaftVoter 0-0 0 | | 4 2:error
82 UpdateRaftVoter 0-0 0 | | 4 2:error
83 InitializeShareGroupState 0-0 0 | s [ 16:id [ 4 4 8 ] ] | [ 16 [ 4 2:error s ] ]
84 ReadShareGroupState 0-0 0 | s [ 16:id [ 4 4 ] ] | [ 16 [ 4 2:error s 4 8 [ 8 8 1 2 ] ] ]
85 WriteShareGroupState 0-1 0 | s [ 16:id [ 4 4 4 8 4@1+ [ 8 8 1 2 ] ] ] | [ 16 [ 4 2:error s ] ]
86 DeleteShareGroupState 0-0 0 | s [ 16:id [ 4 ] ] | [ 16 [ 4 2:error s ] ]
87 ReadShareGroupStateSummary 0-1 0 | s [ 16:id [ 4 4 ] ] | [ 16 [ 4 2:error s 4 4 8 4@1+ ] ]
88 StreamsGroupHeartbeat 0-0 0 | s:group | 4 2:error
89 StreamsGroupDescribe 0-0 0 | ( s:group ) | 4 [ 2:error . ]
90 DescribeShareGroupOffsets 0-1 0 | [ s:group [ s:topic ( 4 ) ] ] | 4 [ s [ s 16 [ 4 8 4 8@1+ 2:error s ] ] 2:error s ]
91 AlterShareGroupOffsets 0-0 0 | s:group [ s:topic [ 4 8 ] ] | 4 2:error s [ s 16 [ 4 2:error s ] ]
92 DeleteShareGroupOffsets 0-0 0 | s:group [ s:topic ] | 4 2:error s [ s 16 2:error s ]
"""

# org.apache.kafka.common.protocol.Errors: -1, then from 1 on without a gap. 0 is none.
UNKNOWN_ERROR = "UNKNOWN_SERVER_ERROR"
ERRORS = """
OFFSET_OUT_OF_RANGE CORRUPT_MESSAGE UNKNOWN_TOPIC_OR_PARTITION INVALID_FETCH_SIZE LEADER_NOT_AVAILABLE
NOT_LEADER_OR_FOLLOWER REQUEST_TIMED_OUT BROKER_NOT_AVAILABLE REPLICA_NOT_AVAILABLE MESSAGE_TOO_LARGE
STALE_CONTROLLER_EPOCH OFFSET_METADATA_TOO_LARGE NETWORK_EXCEPTION COORDINATOR_LOAD_IN_PROGRESS
COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR INVALID_TOPIC_EXCEPTION RECORD_LIST_TOO_LARGE NOT_ENOUGH_REPLICAS
NOT_ENOUGH_REPLICAS_AFTER_APPEND INVALID_REQUIRED_ACKS ILLEGAL_GENERATION INCONSISTENT_GROUP_PROTOCOL INVALID_GROUP_ID
UNKNOWN_MEMBER_ID INVALID_SESSION_TIMEOUT REBALANCE_IN_PROGRESS INVALID_COMMIT_OFFSET_SIZE TOPIC_AUTHORIZATION_FAILED
GROUP_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED INVALID_TIMESTAMP UNSUPPORTED_SASL_MECHANISM
ILLEGAL_SASL_STATE UNSUPPORTED_VERSION TOPIC_ALREADY_EXISTS INVALID_PARTITIONS INVALID_REPLICATION_FACTOR
INVALID_REPLICA_ASSIGNMENT INVALID_CONFIG NOT_CONTROLLER INVALID_REQUEST UNSUPPORTED_FOR_MESSAGE_FORMAT
POLICY_VIOLATION OUT_OF_ORDER_SEQUENCE_NUMBER DUPLICATE_SEQUENCE_NUMBER INVALID_PRODUCER_EPOCH INVALID_TXN_STATE
INVALID_PRODUCER_ID_MAPPING INVALID_TRANSACTION_TIMEOUT CONCURRENT_TRANSACTIONS TRANSACTION_COORDINATOR_FENCED
TRANSACTIONAL_ID_AUTHORIZATION_FAILED SECURITY_DISABLED OPERATION_NOT_ATTEMPTED KAFKA_STORAGE_ERROR LOG_DIR_NOT_FOUND
SASL_AUTHENTICATION_FAILED UNKNOWN_PRODUCER_ID REASSIGNMENT_IN_PROGRESS DELEGATION_TOKEN_AUTH_DISABLED
DELEGATION_TOKEN_NOT_FOUND DELEGATION_TOKEN_OWNER_MISMATCH DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
DELEGATION_TOKEN_AUTHORIZATION_FAILED DELEGATION_TOKEN_EXPIRED INVALID_PRINCIPAL_TYPE NON_EMPTY_GROUP
GROUP_ID_NOT_FOUND FETCH_SESSION_ID_NOT_FOUND INVALID_FETCH_SESSION_EPOCH LISTENER_NOT_FOUND TOPIC_DELETION_DISABLED
FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH UNSUPPORTED_COMPRESSION_TYPE STALE_BROKER_EPOCH OFFSET_NOT_AVAILABLE
MEMBER_ID_REQUIRED PREFERRED_LEADER_NOT_AVAILABLE GROUP_MAX_SIZE_REACHED FENCED_INSTANCE_ID
ELIGIBLE_LEADERS_NOT_AVAILABLE ELECTION_NOT_NEEDED NO_REASSIGNMENT_IN_PROGRESS GROUP_SUBSCRIBED_TO_TOPIC
INVALID_RECORD UNSTABLE_OFFSET_COMMIT THROTTLING_QUOTA_EXCEEDED PRODUCER_FENCED RESOURCE_NOT_FOUND DUPLICATE_RESOURCE
UNACCEPTABLE_CREDENTIAL INCONSISTENT_VOTER_SET INVALID_UPDATE_VERSION FEATURE_UPDATE_FAILED
PRINCIPAL_DESERIALIZATION_FAILURE SNAPSHOT_NOT_FOUND POSITION_OUT_OF_RANGE UNKNOWN_TOPIC_ID
DUPLICATE_BROKER_REGISTRATION BROKER_ID_NOT_REGISTERED INCONSISTENT_TOPIC_ID INCONSISTENT_CLUSTER_ID
TRANSACTIONAL_ID_NOT_FOUND FETCH_SESSION_TOPIC_ID_ERROR INELIGIBLE_REPLICA NEW_LEADER_ELECTED
OFFSET_MOVED_TO_TIERED_STORAGE FENCED_MEMBER_EPOCH UNRELEASED_INSTANCE_ID UNSUPPORTED_ASSIGNOR STALE_MEMBER_EPOCH
MISMATCHED_ENDPOINT_TYPE UNSUPPORTED_ENDPOINT_TYPE UNKNOWN_CONTROLLER_ID UNKNOWN_SUBSCRIPTION_ID TELEMETRY_TOO_LARGE
INVALID_REGISTRATION TRANSACTION_ABORTABLE INVALID_RECORD_STATE SHARE_SESSION_NOT_FOUND INVALID_SHARE_SESSION_EPOCH
FENCED_STATE_EPOCH INVALID_VOTER_KEY DUPLICATE_VOTER VOTER_NOT_FOUND INVALID_REGULAR_EXPRESSION REBOOTSTRAP_REQUIRED
STREAMS_INVALID_TOPOLOGY STREAMS_INVALID_TOPOLOGY_EPOCH STREAMS_TOPOLOGY_FENCED SHARE_SESSION_LIMIT_REACHED
""".split()
