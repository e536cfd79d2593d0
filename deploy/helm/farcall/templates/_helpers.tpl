{{/* What Helm wants to see on every object, beside the labels that every installation has. */}}
{{- define "farcall.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* Of the operator's pods alone. */}}
{{- define "farcall.podLabels" -}}
{{- with .Values.podLabels }}{{ toYaml . }}{{- end }}
{{- end }}

{{/* registry/repository:tag, or @digest where one is pinned. */}}
{{- define "farcall.image" -}}
{{- $image := .Values.image -}}
{{- $path := $image.repository -}}
{{- with $image.registry }}{{- $path = printf "%s/%s" (trimSuffix "/" .) $image.repository }}{{- end -}}
{{- if $image.digest }}{{ printf "%s@%s" $path $image.digest }}
{{- else }}{{ printf "%s:%s" $path (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{/* Deleting the definition would delete every TracingConfig, and with them what they run. */}}
{{- define "farcall.crdMetadata" -}}
labels:
  {{- include "farcall.labels" . | nindent 2 }}
{{- if .Values.crds.keep }}
annotations:
  helm.sh/resource-policy: keep
{{- end }}
{{- end }}
