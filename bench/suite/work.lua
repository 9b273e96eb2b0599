-- SPDX-License-Identifier: MIT
-- work.lua - for lua: tables, closures and strings that come and go.
local function tree(depth, key)
  if depth == 0 then return { key = key } end
  return { key = key, left = tree(depth - 1, 2 * key), right = tree(depth - 1, 2 * key + 1) }
end
local function total(node)
  return node.key + (node.left and total(node.left) + total(node.right) or 0)
end

local sum = 0
for i = 1, 8 do sum = sum + total(tree(13, i)) end
local words = {}
for i = 1, 200000 do
  local key = "word-" .. i * 7919 % 5003
  local list = words[key] or {}
  list[#list + 1] = string.rep(tostring(i), i % 4)
  words[key] = list
end
local lines = {}
for key, list in pairs(words) do lines[#lines + 1] = key .. ":" .. table.concat(list, ",") end
table.sort(lines)
local text = table.concat(lines, "\n")
print(sum, #text, #text:gsub("%d", "%0%0"))
