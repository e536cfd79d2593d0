-- Argo CD's health of a TracingConfig, by the rules of kstatus: a status that is not of the current generation counts
-- for nothing; Stalled needs a person, Reconciling needs time, Ready is well. Lua 5.1, no library.
local health = {status = "Progressing", message = "Waiting for the operator"}

local function is_table(value)
  return type(value) == "table"
end

local function find(name)
  if is_table(obj.status) and is_table(obj.status.conditions) then
    for _, condition in ipairs(obj.status.conditions) do
      if is_table(condition) and condition.type == name then
        return condition
      end
    end
  end
  return nil
end

local function tell(condition)
  if condition.message ~= nil and condition.message ~= "" then
    return condition.message
  end
  return condition.reason or condition.type
end

if is_table(obj.metadata) and obj.metadata.deletionTimestamp ~= nil then
  health.message = "Being deleted"
  return health
end

local stalled, reconciling, ready = find("Stalled"), find("Reconciling"), find("Ready")
local is_stalled = stalled ~= nil and stalled.status == "True"

if is_table(obj.spec) and obj.spec.paused == true and not is_stalled then
  health.status = "Suspended"
  health.message = "spec.paused is true: nothing is changed"
  return health
end

local generation = is_table(obj.metadata) and obj.metadata.generation or nil
local observed = is_table(obj.status) and obj.status.observedGeneration or nil
if observed == nil or (generation ~= nil and observed ~= generation) then
  health.message = "The operator has not looked at this generation yet"
  return health
end

for _, condition in ipairs({stalled or {}, reconciling or {}, ready or {}}) do
  if condition.observedGeneration ~= nil and generation ~= nil and condition.observedGeneration ~= generation then
    health.message = "The operator has not looked at this generation yet"
    return health
  end
end

if is_stalled then
  health.status = "Degraded"
  health.message = tell(stalled)
elseif reconciling ~= nil and reconciling.status == "True" then
  health.message = tell(reconciling)
elseif ready ~= nil and ready.status == "True" then
  health.status = "Healthy"
  health.message = tell(ready)
elseif ready ~= nil then
  health.message = tell(ready)
end
return health
